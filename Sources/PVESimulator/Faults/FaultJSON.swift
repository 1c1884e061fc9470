/// Faults as JSON: `{"latency":"200ms","path":"/nodes/*"}`, the same words as in the text.
extension Fault {
  /// - Throws: a sentence that names the field.
  init(json: JSON) throws(FaultError) {
    guard case .object(let members) = json else { throw FaultError("a fault is a JSON object") }
    var words: [Word] = []
    for member in members {
      switch member.value {
      case .string(let text): words.append((member.key, text))
      case .int(let number): words.append((member.key, String(number)))
      case .double(let number): words.append((member.key, "\(number)"))
      case .bool(true): words.append((member.key, "true"))
      case .null: continue
      case .bool(false), .array, .object, .raw:
        throw FaultError("'\(member.key)' is a text, a number or true")
      }
    }
    self = try Fault.read(words)
  }

  /// What ``init(json:)`` reads.
  var json: JSON {
    .object(
      words.map { word in
        let value: JSON =
          if word.value.isEmpty {
            .bool(true)
          } else if let number = Int(word.value), String(number) == word.value {
            .int(number)
          } else if Fault.fractions.contains(word.name), let number = Double(word.value) {
            .double(number)
          } else {
            .string(word.value)
          }
        return .init(key: word.name, value: value)
      })
  }

  private static let fractions: Set<String> = [
    "probability", "reorder-console", "repeat-console", "lose-console", "slow-tasks",
  ]
}
