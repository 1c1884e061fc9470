@testable import PVESimulator

extension ReturnType {
  /// What in an answer isn't as the schema says, or nil.
  ///
  /// As strict as a recorded node, whose only liberties are these: whole numbers may come as texts (ports do), truth
  /// is 1 or 0, and members that are optional may be null.
  func mismatch(_ value: JSON, at path: String = "data") -> String? {
    switch (self, value) {
    case (.any, _): return nil
    case (.null, .null): return nil
    case (.string, .string): return nil
    case (.integer, .int): return nil
    case (.integer, .string(let text)) where Int(text) != nil: return nil
    case (.number, .int), (.number, .double): return nil
    case (.boolean, .int(let flag)) where flag == 0 || flag == 1: return nil
    case (.array(let type), .array(let items)):
      for (i, item) in items.enumerated() {
        if let mismatch = type.mismatch(item, at: "\(path)[\(i)]") { return mismatch }
      }
      return nil
    case (.object(let members), .object):
      for member in members {
        let name = "\(path).\(member.name)"
        switch value[member.name] {
        case nil: if !member.isOptional { return "\(name) is missing" }
        case .null?: if !member.isOptional { return "\(name) is null" }
        case .some(let inner):
          if let mismatch = member.type.mismatch(inner, at: name) { return mismatch }
        }
      }
      return nil
    default: return "\(path) is \(value.text.prefix(60)), not \(self)"
    }
  }
}
