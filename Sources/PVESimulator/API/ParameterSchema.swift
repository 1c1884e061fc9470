/// One parameter of an operation, as PVE's schema describes it, and the check of a value against it with PVE's
/// texts.
struct ParameterSchema: Sendable {
  enum Kind: Sendable {
    case string, integer, number, boolean
    case array
  }

  /// Named formats whose check is more than the type's.
  enum Format: Sendable {
    case node, vmid, privilegeList, realm
  }

  var name: String
  var kind: Kind
  var isOptional = false
  var choices: [String] = []
  var minimum: Int?
  var maximum: Int?
  var minimumLength: Int?
  var maximumLength: Int?
  var format: Format?
  /// Another parameter that must be there too.
  var needs: String?

  static func string(
    _ name: String, optional: Bool = false, choices: [String] = [], maximumLength: Int? = nil,
    format: Format? = nil, needs: String? = nil
  ) -> ParameterSchema {
    ParameterSchema(
      name: name, kind: .string, isOptional: optional, choices: choices,
      maximumLength: maximumLength, format: format, needs: needs)
  }

  static func integer(
    _ name: String, optional: Bool = false, _ range: ClosedRange<Int>? = nil, minimum: Int? = nil
  ) -> ParameterSchema {
    ParameterSchema(
      name: name, kind: .integer, isOptional: optional, minimum: range?.lowerBound ?? minimum,
      maximum: range?.upperBound)
  }

  static func boolean(_ name: String) -> ParameterSchema {
    ParameterSchema(name: name, kind: .boolean, isOptional: true)
  }

  static let node = ParameterSchema(name: "node", kind: .string, format: .node)
  static let vmid = ParameterSchema(
    name: "vmid", kind: .integer, minimum: 100, maximum: 999_999_999, format: .vmid)

  /// PVE's text for what is wrong with a value, or nil.
  func complaint(about value: ParameterValue) -> String? {
    switch (kind, value) {
    case (.array, .list): return nil
    case (.array, _): return "type check ('array') failed"
    case (_, .list): return "type check ('\(typeName)') failed - got ARRAY"
    case (_, .object): return "type check ('\(typeName)') failed - got HASH"
    case (_, .null): return isOptional ? nil : "property is missing and it is not optional"
    case (_, .text(let text)): return complaint(about: text)
    }
  }

  private var typeName: String {
    switch kind {
    case .string: "string"
    case .integer: "integer"
    case .number: "number"
    case .boolean: "boolean"
    case .array: "array"
    }
  }

  private func complaint(about text: String) -> String? {
    let wrongType = "type check ('\(typeName)') failed - got '\(text)'"
    switch kind {
    case .integer:
      let digits = text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text[...]
      guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }) else {
        return wrongType
      }
      let number = Int(text) ?? (text.hasPrefix("-") ? Int.min : Int.max)
      if let complaint = complaint(about: Double(number)) { return complaint }
    case .number:
      guard let number = Double(text), number.isFinite else { return wrongType }
      if let complaint = complaint(about: number) { return complaint }
    case .boolean:
      if text != "0", text != "1" { return wrongType }
    case .string:
      if let maximumLength, text.unicodeScalars.count > maximumLength {
        return "value may only be \(maximumLength) characters long"
      }
      if let minimumLength, text.unicodeScalars.count < minimumLength {
        return "value must be at least \(minimumLength) characters long"
      }
    case .array: break
    }
    if !choices.isEmpty, !choices.contains(text) {
      return
        "value '\(text)' does not have a value in the enumeration '\(choices.joined(separator: ", "))'"
    }
    return format.flatMap { formatComplaint($0, text) }
  }

  private func complaint(about number: Double) -> String? {
    if let minimum, number < Double(minimum) {
      return "value must have a minimum value of \(minimum)"
    }
    if let maximum, number > Double(maximum) {
      return "value must have a maximum value of \(maximum)"
    }
    return nil
  }

  private func formatComplaint(_ format: Format, _ text: String) -> String? {
    let bytes = Array(text.utf8)
    func isWord(_ c: UInt8) -> Bool {
      (48...57).contains(c) || (65...90).contains(c) || (97...122).contains(c)
    }
    switch format {
    case .node:
      let fits =
        (1...63).contains(bytes.count) && bytes.allSatisfy { isWord($0) || $0 == 45 }
        && bytes.first != 45 && bytes.last != 45
      return fits ? nil : "invalid format - value does not look like a valid node name"
    case .vmid:
      return bytes.first == 48 ? "invalid format - value does not look like a valid VM ID" : nil
    case .privilegeList:
      let names = text.split { $0 == "," || $0 == ";" || $0 == " " }
      let unknown = names.first { Privilege(String($0)) == nil }
      return unknown.map { "invalid format - invalid privilege '\($0)'" }
    case .realm:
      let fits =
        bytes.count >= 2 && bytes.allSatisfy { isWord($0) || $0 == 45 || $0 == 46 || $0 == 95 }
      return fits ? nil : "invalid format - value does not look like a valid realm"
    }
  }
}
