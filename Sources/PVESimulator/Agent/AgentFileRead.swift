/// `agent/file-read`: opens, seeks, reads in chunks of 1 MiB up to 16 MiB, closes.
final class AgentFileRead {
  static let maximum = 16 << 20
  private static let chunk = 1 << 20

  private let call: AgentCall
  private let file: String
  private let offset: Int
  private let decodes: Bool
  private let wanted: Int
  private var left: Int
  private var bytes: [UInt8] = []
  /// Without decoding the answer is the chunks' base64, one after the other.
  private var encoded = ""

  init(_ call: AgentCall, file: String, offset: Int, count: Int?, decodes: Bool) {
    self.call = call
    self.file = file
    self.offset = offset
    self.decodes = decodes
    wanted = count ?? AgentFileRead.maximum
    left = wanted
  }

  func begin(_ done: @escaping APIResult.Done) {
    call.perform("guest-file-open", ["path": .string(file)]) { opened in
      guard case .success(let handle) = opened else { return done(opened.failed) }
      guard self.offset > 0 else { return self.read(handle, done) }
      self.call.performNow(
        "guest-file-seek",
        ["handle": handle, "offset": .int(self.offset), "whence": "set"]
      ) { sought in
        guard case .success = sought else { return done(sought.failed) }
        self.read(handle, done)
      }
    }
  }

  private func read(_ handle: JSON, _ done: @escaping APIResult.Done) {
    call.performNow(
      "guest-file-read", ["handle": handle, "count": .int(min(AgentFileRead.chunk, left))]
    ) { answer in
      guard case .success(let value) = answer else { return done(answer.failed) }
      let text = value["buf-b64"]?.string ?? ""
      if self.decodes {
        self.bytes += text.isEmpty ? [] : base64Decoded(text) ?? []
      } else {
        self.encoded += text
      }
      let count = value["count"]?.integer ?? 0
      self.left -= count
      let isAtEnd = value["eof"]?.boolean ?? false
      // An agent that reads nothing and doesn't say why would be asked for ever.
      if isAtEnd || self.left <= 0 || count <= 0 {
        self.close(handle, isAtEnd: isAtEnd, done)
      } else {
        self.read(handle, done)
      }
    }
  }

  private func close(_ handle: JSON, isAtEnd: Bool, _ done: @escaping APIResult.Done) {
    call.askNow("guest-file-close", ["handle": handle]) { _ in
      var members: [JSON.Member] = [
        .init(
          key: "content",
          value: .string(
            self.decodes ? AgentBytes.characters(self.bytes) : self.encoded)),
        .init(key: "bytes-read", value: .int(self.wanted - self.left)),
      ]
      if !isAtEnd { members.append(.init(key: "truncated", value: 1)) }
      done(.success(APIResult(.object(members))))
    }
  }
}
