/// A command of the migration tunnel: its parameters, and what it does.
struct TunnelCommand: Sendable {
  /// Why one isn't done, in PVE's words.
  struct Failure: Error {
    let text: String
    init(_ text: String) { self.text = text }
  }

  /// A parameter's type.
  enum Form: Sendable {
    case text, flag, number, object, texts
  }

  struct Parameter: Sendable {
    let name: String
    let form: Form
    let isOptional: Bool

    static func needed(_ name: String, _ form: Form = .text) -> Parameter {
      Parameter(name: name, form: form, isOptional: false)
    }
    static func optional(_ name: String, _ form: Form = .text) -> Parameter {
      Parameter(name: name, form: form, isOptional: true)
    }
  }

  /// Does it; the reply's members, without `success`, are given now or later, once.
  typealias Action =
    @Sendable (TunnelWorker, JSON, @escaping ([JSON.Member]) -> Void) throws(Failure) -> Void

  let parameters: [Parameter]
  let run: Action

  /// The parameters, if they are right. Commands that take none ignore what they get.
  func check(_ members: [JSON.Member], era: Era, kind: SimulatedGuest.Kind) throws(Failure) -> JSON
  {
    guard !parameters.isEmpty else { return .object([]) }
    var complaints: [String] = []
    for member in members {
      guard let rule = parameters.first(where: { $0.name == member.key }) else {
        if kind == .qemu, era.tunnelsRefuseUnknownParameters {
          complaints.append(
            "\(member.key): property is not defined in schema and the schema does not allow "
              + "additional properties")
        }
        continue
      }
      if let text = rule.complaint(about: member.value) {
        complaints.append("\(member.key): \(text)")
      }
    }
    for rule in parameters
    where !rule.isOptional && !members.contains(where: { $0.key == rule.name }) {
      complaints.append("\(rule.name): property is missing and it is not optional")
    }
    guard complaints.isEmpty else {
      throw Failure(
        "400 Parameter verification failed.\n" + complaints.map { $0 + "\n" }.joined())
    }
    return .object(members)
  }

  /// The commands of a kind of guest.
  static func table(_ kind: SimulatedGuest.Kind) -> [String: TunnelCommand] {
    kind == .qemu ? ofMachines : ofContainers
  }

  private static let ofMachines = common.merging(machineCommands) { $1 }
  private static let ofContainers = common.merging(containerCommands) { $1 }
}

extension TunnelCommand.Parameter {
  func complaint(about value: JSON) -> String? {
    func typeFailure(_ type: String) -> String {
      "type check ('\(type)') failed - got '\(value.text)'"
    }
    switch (form, value) {
    case (.text, .string), (.text, .int), (.text, .double): return nil
    case (.text, _): return typeFailure("string")
    case (.flag, .bool), (.flag, .int(0)), (.flag, .int(1)), (.flag, .string("0")),
      (.flag, .string("1")):
      return nil
    case (.flag, _): return typeFailure("boolean")
    case (.number, .int), (.number, .double), (.number, .null): return nil
    case (.number, .string(let text)): return Int(text) == nil ? typeFailure("integer") : nil
    case (.number, _): return typeFailure("integer")
    case (.object, .object): return nil
    case (.object, _): return typeFailure("object")
    case (.texts, .array), (.texts, .string): return nil
    case (.texts, _): return typeFailure("string")
    }
  }
}

extension JSON {
  /// A text, or a number as one.
  var tunnelText: String? {
    switch self {
    case .string(let text): text
    case .int(let number): String(number)
    default: nil
    }
  }

  /// Whether it stands for yes.
  var tunnelFlag: Bool { self == .bool(true) || self == .int(1) || self == .string("1") }
}
