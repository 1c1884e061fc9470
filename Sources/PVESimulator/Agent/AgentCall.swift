/// One API call's conversation with a VM's agent. Each command is preceded by a ping, as PVE's are.
final class AgentCall {
  private unowned let node: PVENode
  private let guest: Guest
  private let vmid: Int

  init(_ node: PVENode, _ guest: Guest) {
    self.node = node
    self.guest = guest
    vmid = guest.description.vmid
  }

  /// How long PVE waits for a command's answer.
  private func patience(_ command: String) -> Duration {
    switch command {
    // Freezing flushes every file system.
    case "guest-fsfreeze-freeze": .seconds(3600)
    case "guest-fstrim": .seconds(600)
    case "guest-fsfreeze-thaw": max(.seconds(10), node.timings.agentCommand)
    default: node.timings.agentCommand
    }
  }

  /// Pings, then asks. An agent's own error is a success here.
  func ask(
    _ command: String, _ arguments: JSON? = nil,
    _ done: @escaping (Result<AgentAnswer, APIError>) -> Void
  ) {
    guest.insides.line.call("guest-ping", within: node.timings.agentPing) { answer in
      switch answer {
      case .timedOut, .unreachable:
        // The ping's failure says nothing of why: a guest that stopped meanwhile sounds the same.
        done(.failure(.died("QEMU guest agent is not running")))
      case .value, .refused: self.askNow(command, arguments, done)
      }
    }
  }

  /// Asks without a ping, as the reads of a file that is open do.
  func askNow(
    _ command: String, _ arguments: JSON? = nil,
    _ done: @escaping (Result<AgentAnswer, APIError>) -> Void
  ) {
    guard guest.isRunning else { return done(.failure(.died("VM \(vmid) not running"))) }
    let patience = patience(command)
    guest.insides.line.call(command, arguments, within: patience) { answer in
      switch answer {
      case .value, .refused: done(.success(answer))
      case .timedOut:
        done(.failure(.died("VM \(self.vmid) qga command '\(command)' failed - got timeout")))
      case .unreachable where !self.guest.isRunning:
        done(.failure(.died("VM \(self.vmid) not running")))
      case .unreachable:
        let retries = Int(patience / .milliseconds(100)) + 1
        done(
          .failure(
            .died(
              "unable to connect to VM \(self.vmid) qga socket - timeout after \(retries) retries"))
        )
      }
    }
  }

  /// Pings and asks; an agent's error is a failure.
  func perform(
    _ command: String, _ arguments: JSON? = nil,
    _ done: @escaping (Result<JSON, APIError>) -> Void
  ) {
    ask(command, arguments) { self.judge($0, done) }
  }

  /// Asks without a ping; an agent's error is a failure.
  func performNow(
    _ command: String, _ arguments: JSON? = nil,
    _ done: @escaping (Result<JSON, APIError>) -> Void
  ) {
    askNow(command, arguments) { self.judge($0, done) }
  }

  /// Pings and asks; what comes of it is the API call's answer.
  func perform(
    _ command: String, _ arguments: JSON?, _ done: @escaping APIResult.Done,
    _ success: @escaping (JSON) -> APIResult
  ) {
    perform(command, arguments) { done($0.map(success)) }
  }

  private func judge(
    _ outcome: Result<AgentAnswer, APIError>, _ done: @escaping (Result<JSON, APIError>) -> Void
  ) {
    switch outcome {
    case .failure(let error): done(.failure(error))
    case .success(.value(let value)): done(.success(value))
    case .success(.refused(_, let text)): fail("Agent error: \(text)", done)
    case .success: done(.failure(.died("Agent error: no answer")))
    }
  }

  /// An agent's error text goes into the reason phrase. Where it holds a character that no byte has, as the quotes
  /// around the name of a program that doesn't exist, pvedaemon dies writing it; pveproxy sees a cut connection,
  /// and says so after five seconds.
  private func fail(_ text: String, _ done: @escaping (Result<JSON, APIError>) -> Void) {
    guard node.behaviour.wideErrorsKillDaemon,
      text.unicodeScalars.contains(where: { $0.value > 0xFF })
    else {
      return done(.failure(.died(text)))
    }
    node.loop.schedule(after: node.timings.daemonDeath) {
      done(.failure(.proxied(596, "Broken pipe")))
    }
  }
}

/// Guest bytes in the API's JSON: each byte is the character of the same number.
enum AgentBytes {
  /// A text's characters as bytes, in base64.
  /// - Throws: what Perl says about a character above U+00FF.
  static func encode(_ text: String) throws(APIError) -> String {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      guard let byte = UInt8(exactly: scalar.value) else {
        throw .died(
          "Wide character in subroutine entry at /usr/share/perl5/PVE/QemuServer/Agent.pm line 139."
        )
      }
      bytes.append(byte)
    }
    return base64(bytes)
  }

  /// Base64 as bytes, nothing included; nil for what is no base64.
  static func read(_ text: String) -> [UInt8]? {
    text.isEmpty ? [] : base64Decoded(text.filter { $0 != "\n" })
  }

  /// Base64 as the text that PVE makes of it.
  static func decode(_ text: String) -> String {
    text.isEmpty ? "" : characters(base64Decoded(text) ?? [])
  }

  /// Bytes as characters.
  static func characters(_ bytes: [UInt8]) -> String {
    // Twice as long at most: everything above 0x7F takes two bytes of UTF-8.
    let utf8 = [UInt8](unsafeUninitializedCapacity: bytes.count * 2) { out, count in
      bytes.withUnsafeBufferPointer { bytes in
        var n = 0
        for byte in bytes {
          if byte < 0x80 {
            out[n] = byte
            n += 1
          } else {
            out[n] = 0xC0 | byte >> 6
            out[n + 1] = 0x80 | byte & 0x3F
            n += 2
          }
        }
        count = n
      }
    }
    return String(decoding: utf8, as: UTF8.self)
  }
}
