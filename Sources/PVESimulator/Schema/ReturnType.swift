/// The shape of what an operation answers.
indirect enum ReturnType: Sendable, Equatable {
  case null, string, integer, number, boolean
  case any
  /// A list, and what its items are.
  case array(ReturnType)
  /// An object, and the members that it is known to have.
  case object([Member])

  struct Member: Sendable, Equatable {
    var name: String
    var isOptional: Bool
    var type: ReturnType
  }

  /// Members of the objects of a list.
  var rowMembers: [Member] {
    if case .array(.object(let members)) = self { members } else { [] }
  }

  /// A member of an object.
  func member(_ name: String) -> Member? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.name == name }
  }

  /// Reads the table's spelling: letters for types, `[…]` for a list, `{name:…,name?:…}` for an object.
  init?(_ text: some StringProtocol) {
    var rest = Array(text.utf8)[...]
    guard let type = ReturnType(&rest), rest.isEmpty else { return nil }
    self = type
  }

  private init?(_ rest: inout ArraySlice<UInt8>) {
    switch rest.popFirst() {
    case UInt8(ascii: "-"): self = .null
    case UInt8(ascii: "s"): self = .string
    case UInt8(ascii: "i"): self = .integer
    case UInt8(ascii: "n"): self = .number
    case UInt8(ascii: "b"): self = .boolean
    case UInt8(ascii: "x"): self = .any
    case UInt8(ascii: "a"): self = .array(.any)
    case UInt8(ascii: "o"): self = .object([])
    case UInt8(ascii: "["):
      guard let item = ReturnType(&rest), rest.popFirst() == UInt8(ascii: "]") else { return nil }
      self = .array(item)
    case UInt8(ascii: "{"):
      var members: [Member] = []
      while rest.first != UInt8(ascii: "}") {
        if !members.isEmpty, rest.popFirst() != UInt8(ascii: ",") { return nil }
        let name = rest.prefix { $0 != UInt8(ascii: ":") }
        rest = rest.dropFirst(name.count + 1)
        let isOptional = name.last == UInt8(ascii: "?")
        guard let type = ReturnType(&rest) else { return nil }
        members.append(
          Member(
            name: String(decoding: isOptional ? name.dropLast() : name, as: UTF8.self),
            isOptional: isOptional, type: type))
      }
      rest = rest.dropFirst()
      self = .object(members)
    default: return nil
    }
  }
}
