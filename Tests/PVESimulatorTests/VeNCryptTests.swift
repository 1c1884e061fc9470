import COpenSSL
import Testing

@testable import PVESimulator

/// TLS's client side over a console's websocket.
private final class InnerTLS {
  private let socket: TestWebsocket
  private let context: OpaquePointer
  private let ssl: OpaquePointer
  private let input: OpaquePointer
  private let output: OpaquePointer

  init(_ socket: TestWebsocket, isAnonymous: Bool) throws {
    guard let context = SSL_CTX_new(TLS_client_method()) else {
      throw ClientFailure(description: "no context")
    }
    if isAnonymous {
      SSL_CTX_ctrl(context, 124, 0x0303, nil)
      guard SSL_CTX_set_cipher_list(context, "aNULL:@SECLEVEL=0") == 1 else {
        throw ClientFailure(description: "no anonymous ciphers")
      }
    }
    guard let ssl = SSL_new(context), let input = BIO_new(BIO_s_mem()),
      let output = BIO_new(BIO_s_mem())
    else { throw ClientFailure(description: "no TLS") }
    SSL_set_bio(ssl, input, output)
    SSL_set_connect_state(ssl)
    self.socket = socket
    (self.context, self.ssl, self.input, self.output) = (context, ssl, input, output)
    while true {
      let result = SSL_do_handshake(ssl)
      try flush()
      if result == 1 { break }
      try more()
    }
  }

  deinit {
    SSL_free(ssl)
    SSL_CTX_free(context)
  }

  private func flush() throws {
    var chunk = [UInt8](repeating: 0, count: 16_384)
    while true {
      let n = BIO_read(output, &chunk, Int32(chunk.count))
      guard n > 0 else { return }
      try socket.send(Array(chunk.prefix(Int(n))))
    }
  }

  private func more() throws {
    guard let frame = try socket.frame() else { throw ClientFailure(description: "ended") }
    BIO_write(input, frame.payload, Int32(frame.payload.count))
  }

  func write(_ bytes: [UInt8]) throws {
    SSL_write(ssl, bytes, Int32(bytes.count))
    try flush()
  }

  func read(_ count: Int) throws -> [UInt8] {
    var all: [UInt8] = []
    while all.count < count {
      var chunk = [UInt8](repeating: 0, count: count - all.count)
      let n = SSL_read(ssl, &chunk, Int32(chunk.count))
      if n > 0 { all += chunk.prefix(Int(n)) } else { try more() }
    }
    return all
  }
}

extension NodeTests {
  @Suite("A terminal's picture without websocket=1")
  struct VeNCryptTests {
    /// Logs in and gives the result and, where it is good, the screen's name.
    private func login(
      _ pve: Simulator, _ mint: TestWebsocket.Mint, as who: TestCredential, user: String,
      ticket: String, type: UInt8
    ) async throws -> (UInt8, String) {
      try await blocking {
        let socket = try TestWebsocket(pve, mint, as: who)
        try socket.open()
        _ = try socket.read(upTo: "RFB 003.008\n")
        try socket.send("RFB 003.008\n")
        guard try socket.read(2) == [1, 19] else { throw ClientFailure(description: "types") }
        try socket.send([19])
        guard try socket.read(2) == [0, 2] else { throw ClientFailure(description: "version") }
        try socket.send([0, 2])
        guard try socket.read(10) == [0, 2, 0, 0, 1, 6, 0, 0, 1, 3] else {
          throw ClientFailure(description: "subtypes")
        }
        try socket.send([0, 0, 1, type])
        guard try socket.read(1) == [1] else { throw ClientFailure(description: "subtype") }
        let tls = try InnerTLS(socket, isAnonymous: type == 3)
        func four(_ n: Int) -> [UInt8] { [0, 0, UInt8(n >> 8), UInt8(n & 255)] }
        try tls.write(
          four(user.utf8.count) + four(ticket.utf8.count) + Array(user.utf8) + Array(ticket.utf8))
        let result = try tls.read(4)
        guard result == [0, 0, 0, 0] else { return (result[3], "") }
        try tls.write([1])
        let head = try tls.read(24)
        return (0, String(decoding: try tls.read(Int(head[23])), as: UTF8.self))
      }
    }

    @Test("user and ticket inside TLS, with a certificate or without")
    func logins() async throws {
      for era in [Era.v8_4, .v9_2] {
        try await withNode({ $0.era = era }) { pve in
          let root = try await pve.login()
          for type: UInt8 in [6, 3] {
            let mint = try await pve.mint("/lxc/200", "vncproxy", as: root)
            #expect(mint.password.isEmpty && mint.ticket.hasPrefix("PVEVNC:"))
            let good = try await login(
              pve, mint, as: root, user: mint.user, ticket: mint.ticket, type: type)
            #expect(good == (0, "VNC Command Terminal"))
            let bad = try await login(
              pve, mint, as: root, user: "alice@pve", ticket: mint.ticket, type: type)
            #expect(bad.0 == 1)
          }
          let token = TestCredential.token(pve)
          let mint = try await pve.mint("/lxc/200", "vncproxy", as: token)
          let result = try await login(
            pve, mint, as: token, user: mint.user, ticket: mint.ticket, type: 6)
          #expect(result.0 == (era.tokensOpenGuestTerminals ? 0 : 1))
        }
      }
    }

    @Test("other choices end the connection")
    func choices() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        let mint = try await pve.mint("", "vncshell", as: root)
        for bytes: [UInt8] in [[2], [19, 0, 1], [19, 0, 2, 0, 0, 0, 2]] {
          let ended = try await blocking {
            let socket = try TestWebsocket(pve, mint, as: root)
            try socket.open()
            try socket.send("RFB 003.008\n")
            try socket.send(bytes)
            return socket.ends()
          }
          #expect(ended)
        }
      }
    }
  }
}
