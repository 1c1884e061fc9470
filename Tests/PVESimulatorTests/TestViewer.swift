@testable import PVESimulator

/// A viewer by hand.
final class TestViewer {
  let socket: TestWebsocket
  private(set) var width = 0
  private(set) var height = 0

  init(_ pve: Simulator, _ mint: TestWebsocket.Mint, as credential: TestCredential) throws {
    socket = try TestWebsocket(pve, mint, as: credential)
    try socket.open()
  }

  /// The security result.
  func login(_ password: String) throws -> [UInt8] {
    guard try socket.read(12) == Array("RFB 003.008\n".utf8) else {
      throw ClientFailure(description: "no banner")
    }
    try socket.send("RFB 003.008\n")
    guard try socket.read(2) == [1, 2] else { throw ClientFailure(description: "other types") }
    try socket.send([2])
    let challenge = try socket.read(16)
    try socket.send(vncResponse(challenge: challenge, password: Array(password.utf8)))
    return try socket.read(4)
  }

  func start() throws -> String {
    try socket.send([1])
    let head = try socket.read(24)
    width = Int(head[0]) << 8 | Int(head[1])
    height = Int(head[2]) << 8 | Int(head[3])
    return String(decoding: try socket.read(Int(head[23])), as: UTF8.self)
  }

  func request(incremental: Bool) throws {
    try socket.send([
      3, incremental ? 1 : 0, 0, 0, 0, 0, UInt8(width >> 8), UInt8(width & 255), UInt8(height >> 8),
      UInt8(height & 255),
    ])
  }

  /// One update in raw encoding: its pixels that aren't black.
  func update() throws -> Int {
    let head = try socket.read(4)
    guard head[0] == 0 else { throw ClientFailure(description: "no update") }
    var lit = 0
    for _ in 0..<(Int(head[2]) << 8 | Int(head[3])) {
      let r = try socket.read(12).map(Int.init)
      let pixels = try socket.read((r[4] << 8 | r[5]) * (r[6] << 8 | r[7]) * 4)
      lit += stride(from: 0, to: pixels.count, by: 4).count {
        pixels[$0] != 0 || pixels[$0 + 1] != 0 || pixels[$0 + 2] != 0
      }
    }
    return lit
  }

  func press(_ keysym: UInt32) throws {
    for down: UInt8 in [1, 0] {
      try socket.send([4, down, 0, 0, 0, 0, UInt8(keysym >> 8 & 255), UInt8(keysym & 255)])
    }
  }
}
