/// What of a request may stand in the journal.
extension Journal.Argument {
  /// Parameters whose values say what a request is about, and are never a secret.
  private static let harmless: Set<String> = [
    "node", "vmid", "newid", "target", "target-vmid", "storage", "pool", "poolid", "type", "limit",
    "start", "since", "until", "source", "timeframe", "cf", "pid", "count", "offset", "full",
    "online",
    "force", "purge", "skiplock", "timeout", "port", "websocket", "width", "height", "serial",
    "generate-password", "snapname", "vmstate", "cores", "sockets", "memory", "username", "userid",
    "realm", "new-format", "upid", "errors", "typefilter", "statusfilter", "enable",
    "overrule-shutdown",
    "migratedfrom", "with-local-disks",
  ]
  private static let longest = 128

  /// The arguments of a request's parameters.
  static func list(_ parameters: Parameters) -> [Journal.Argument] {
    parameters.pairs.map { pair in
      guard isName(pair.name) else { return Journal.Argument(name: "?", count: 1, value: nil) }
      switch pair.value {
      case .list(let items):
        return Journal.Argument(name: pair.name, count: items.count, value: nil)
      case .text(let text):
        let isShown = harmless.contains(pair.name) && isPlain(text)
        return Journal.Argument(name: pair.name, count: 1, value: isShown ? text : nil)
      case .object, .null: return Journal.Argument(name: pair.name, count: 1, value: nil)
      }
    }
  }

  /// A body in the wrong encoding arrives as one long name, with everything in it.
  private static func isName(_ text: String) -> Bool {
    let bytes = text.utf8
    return bytes.count <= 40
      && bytes.allSatisfy {
        (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45
          || $0 == 95 || $0 == 46 || $0 == 91 || $0 == 93
      }
  }

  private static func isPlain(_ text: String) -> Bool {
    // A ticket or token in the wrong field is no name or number any more: it is longer, or has other characters.
    text.utf8.count <= longest && !text.hasPrefix("PVE")
      && text.utf8.allSatisfy {
        (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0)
          || [33, 43, 44, 45, 46, 47, 58, 64, 95].contains($0)
      }
  }
}

extension Journal {
  /// A reason phrase without what the client sent: messages often repeat a value, or the place where a body is
  /// malformed.
  static func redacted(_ reason: String, hiding parameters: Parameters) -> String {
    var out = reason
    if let excerpt = out.firstRange(of: "(before \"") { out = out[..<excerpt.lowerBound] + "…" }
    for pair in parameters.pairs {
      for text in pair.value.texts where text.utf8.count >= 3 && out.contains(text) {
        let argument = Journal.Argument.list(Parameters(pair.name, text)).first
        if argument?.value == nil { out = out.replacing(text, with: "…") }
      }
    }
    return out
  }
}

extension ParameterValue {
  /// Every text in it.
  fileprivate var texts: [String] {
    switch self {
    case .text(let text): [text]
    case .list(let items): items.flatMap(\.texts)
    case .object(let json): json.texts
    case .null: []
    }
  }
}

extension JSON {
  fileprivate var texts: [String] {
    switch self {
    case .string(let text): [text]
    case .array(let items): items.flatMap(\.texts)
    case .object(let members): members.flatMap { [$0.key] + $0.value.texts }
    case .null, .bool, .int, .double, .raw: []
    }
  }
}

extension Parameters {
  fileprivate init(_ name: String, _ text: String) {
    self.init()
    set(name, .text(text))
  }
}
