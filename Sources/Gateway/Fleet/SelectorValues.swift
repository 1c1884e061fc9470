import ConsoleProtocol

/// The values of a selector's fields, checked: what could never be in PVE is an error and not an empty selection.
extension Selector {
  /// The states that there are. `online` and `running` of a node are the same.
  static let states = [
    "running", "stopped", "paused", "suspended", "prelaunch", "unknown", "online", "offline", "any",
  ]
  /// The longest value, in bytes: twice a DNS name.
  static let maximumValue = 512

  /// One value of a field.
  static func value(
    _ text: String, of field: Field, position: Int?
  ) throws(SelectorError) -> Glob {
    func failure(_ problem: String, _ remedy: String) -> SelectorError {
      SelectorError(position: position, problem: problem, remedy: remedy)
    }
    guard !text.isEmpty else {
      throw failure("the value of '\(field.rawValue)' is empty", "Give one; '*' means any.")
    }
    guard text.utf8.count <= maximumValue else {
      throw failure(
        "the value of '\(field.rawValue)' has \(text.utf8.count) bytes",
        "At most \(maximumValue) are possible.")
    }
    guard !text.unicodeScalars.contains(where: { $0.value < 32 || $0.value == 127 }) else {
      throw failure(
        "the value of '\(field.rawValue)' has a control character",
        "No name in PVE has one: leave it out.")
    }
    let shown = text.prefix(40)
    switch field {
    case .type:
      guard Kind(rawValue: text) != nil else {
        throw failure("there is no type '\(shown)'", "There are: qemu, lxc, node.")
      }
    case .state:
      guard states.contains(text) else {
        throw failure(
          "there is no state '\(shown)'", "There are: \(states.joined(separator: ", ")).")
      }
      if text == "any" { return Glob("any") }
    case .node:
      guard isName(text, more: "-") else {
        throw failure(
          "'\(shown)' is no node's name",
          "It has letters, digits and hyphens, and may have * and ?.")
      }
    case .name, .tag, .pool, .cluster: break
    }
    return Glob(text)
  }

  /// `100` or `100-199`.
  static func range(_ text: String, position: Int?) throws(SelectorError) -> ClosedRange<Int> {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let low = parts.first.flatMap({ VMID($0) }),
      let high = parts.last.flatMap({ VMID($0) })
    else {
      throw SelectorError(
        position: position,
        problem: "'\(text.prefix(40))' is no guest's number or range of numbers",
        remedy: "Write e.g. vmid=100 or vmid=100-199,205; numbers begin at 100.")
    }
    guard low <= high else {
      throw SelectorError(
        position: position, problem: "the range \(text.prefix(40)) begins above its end",
        remedy: "Write \(high)-\(low).")
    }
    return low.value...high.value
  }

  /// `qemu/100`, `lxc/*`, `node/pve1`, `home:qemu/100`, a name or a number.
  static func targetPattern(
    _ text: String, position: Int?
  ) throws(SelectorError) -> TargetPattern {
    let malformed = SelectorError(
      position: position, problem: "'\(text.prefix(80))' is no target",
      remedy:
        "Write e.g. qemu/100, lxc/*, node/pve1, home:qemu/100, or a guest's name such as web-*.")
    guard text.utf8.count <= maximumValue else { throw malformed }
    var rest = text[...]
    var cluster: Glob?
    if let colon = rest.firstIndex(of: ":") {
      guard colon > rest.startIndex else { throw malformed }
      cluster = Glob(String(rest[..<colon]))
      rest = rest[rest.index(after: colon)...]
    }
    let parts = rest.split(separator: "/", omittingEmptySubsequences: false)
    if parts.count == 2 {
      guard let kind = Kind(rawValue: String(parts[0])), !parts[1].isEmpty else { throw malformed }
      let id = Glob(String(parts[1]))
      switch kind {
      case .node: guard isName(id.text, more: "-") else { throw malformed }
      case .qemu, .lxc:
        guard id.text.utf8.allSatisfy({ (48...57).contains($0) || $0 == 42 || $0 == 63 }),
          !id.isExact || VMID(id.text) != nil
        else { throw malformed }
      }
      return TargetPattern(cluster: cluster, kind: kind, id: id)
    }
    guard parts.count == 1, isName(String(rest), more: "-._") else { throw malformed }
    let numbers = rest.split(separator: "-", omittingEmptySubsequences: false)
    if numbers.count == 2, numbers.allSatisfy({ VMID($0) != nil }) {
      throw SelectorError(
        position: position, problem: "'\(rest)' looks like a range of guests' numbers",
        remedy: "Write vmid=\(rest); a guest of that name is name=\(rest).")
    }
    return TargetPattern(cluster: cluster, kind: nil, id: Glob(String(rest)))
  }

  /// Letters, digits, `*`, `?` and what else is given; at least one.
  private static func isName(_ text: String, more: String) -> Bool {
    !text.isEmpty
      && text.utf8.allSatisfy {
        (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 42
          || $0 == 63 || more.utf8.contains($0)
      }
  }
}
