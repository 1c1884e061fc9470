/// The worker of a migration tunnel: JSON lines over a unix socket, strictly request and reply.
///
/// Only what a client needs to see that the tunnel stands is here; the migration itself is not.
final class TunnelWorker: ConsoleWorker {
  private static let longestLine = 1 << 20

  /// The socket's path, by which websockets find it.
  let socket: String
  private var line: [UInt8] = []
  private var isLeaving = false

  init(node: PVENode, upid: String, socket: String) {
    self.socket = socket
    super.init(node: node, upid: upid, port: 0)
  }

  override func openListener() { node.tunnels[socket] = self }
  override func closeListener() { node.tunnels[socket] = nil }
  override func nobodyCame() { finish("timed out waiting for client") }

  override func clientClosed() { finish(isLeaving ? "OK" : "mtunnel exited unexpectedly") }

  override func receive(_ bytes: UnsafeRawBufferPointer) {
    for byte in bytes {
      guard byte == 10 else {
        line.append(byte)
        if line.count > TunnelWorker.longestLine { finish("mtunnel exited unexpectedly") }
        continue
      }
      let text = line
      line = []
      answer(text)
      guard isConnected else { return }
    }
  }

  private func answer(_ text: [UInt8]) {
    let command: JSON
    do throws(JSONReader.Malformed) {
      command = try JSONReader.read(text)
    } catch {
      reply(failure: "failed to parse command - \(error.message)")
      return
    }
    guard case .string(let name)? = command["cmd"] else {
      reply(failure: "unable to parse command without 'cmd'")
      return
    }
    if isLeaving {
      reply(failure: "tunnel is in exit-mode, processing command '\(name)' not possible")
      return
    }
    node.tasks.log(upid, ["received command '\(name)'"])
    switch name {
    case "version": reply([.init(key: "api", value: 2), .init(key: "age", value: 0)])
    case "bwlimit": reply([.init(key: "bwlimit", value: command["bwlimit"] ?? .null)])
    case "unlock", "stop", "resume", "fstrim", "nbdstop": reply([])
    case "quit":
      isLeaving = true
      reply([])
    default: reply(failure: "unknown command '\(name)' given")
    }
  }

  private func reply(_ members: [JSON.Member]) {
    let all = members + [.init(key: "success", value: .bool(true))]
    send(JSON.object(all).bytes + [10])
  }

  private func reply(failure: String) {
    let answer: JSON = ["success": .bool(false), "msg": .string(failure)]
    send(answer.bytes + [10])
  }
}
