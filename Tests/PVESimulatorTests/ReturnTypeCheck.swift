@testable import PVESimulator

extension ReturnType {
  /// What in an answer isn't as the schema says, or nil.
  ///
  /// PVE's Perl has no types of its own: numbers come as texts and texts as numbers, truth comes as 1, 0 or a text,
  /// and members that are optional may be null.
  func mismatch(_ value: JSON, at path: String = "data") -> String? {
    switch (self, value) {
    case (.any, _): return nil
    case (.null, .null): return nil
    case (.string, .string), (.string, .int), (.string, .double): return nil
    case (.integer, .int): return nil
    case (.integer, .string(let text)) where Int(text) != nil: return nil
    case (.number, .int), (.number, .double): return nil
    case (.number, .string(let text)) where Double(text) != nil: return nil
    case (.boolean, .int(let flag)) where flag == 0 || flag == 1: return nil
    case (.boolean, .string("0")), (.boolean, .string("1")), (.boolean, .string("")): return nil
    case (.boolean, .bool): return nil
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
