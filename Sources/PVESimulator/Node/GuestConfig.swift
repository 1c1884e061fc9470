/// A guest's configuration file: its options, what waits for the next start, and its snapshots.
struct GuestConfig: Sendable, Equatable {
  var options = OptionList()
  /// Values that are used from the next start on.
  var pending = OptionList()
  /// Options that are gone from the next start on; true where the volume is to be destroyed as well.
  var pendingDeletes: [String: Bool] = [:]
  /// By name.
  var snapshots: [String: Snapshot] = [:]

  /// A copy of the options at some time.
  struct Snapshot: Sendable, Equatable {
    var options = OptionList()
    var description: String?
    var time = 0
    var parent: String?
    /// The volume with the memory.
    var vmstate: String?
    /// `prepare` or `delete` while a task is at it.
    var state: String?
  }

  /// `backup`, `clone`, `migrate` …
  var lock: String? {
    get { options["lock"] }
    set { options["lock"] = newValue }
  }

  var isTemplate: Bool { options["template"] == "1" }
  var isProtected: Bool { options["protection"] == "1" }
  var hasPendingChanges: Bool { !pending.isEmpty || !pendingDeletes.isEmpty }

  /// The options as they will be after the next start.
  var future: OptionList {
    var future = options
    for option in pending.options { future[option.key] = option.value }
    for key in pendingDeletes.keys { future[key] = nil }
    return future
  }

  /// SHA-1 of the file.
  var digest: String { lowerHex(sha1(Array(text.utf8))) }

  /// The file.
  var text: String {
    var out = ""
    if let description = options["description"] {
      for line in description.split(separator: "\n", omittingEmptySubsequences: false) {
        out += "#\(percentEncoded(String(line)))\n"
      }
    }
    var plain = options
    plain["description"] = nil
    out += plain.text
    if hasPendingChanges {
      out += "\n[PENDING]\n" + pending.text
      if !pendingDeletes.isEmpty { out += "delete: \(deleteList)\n" }
    }
    for (name, snapshot) in snapshots.sorted(by: { $0.key < $1.key }) {
      out += "\n[\(name)]\n" + snapshot.allOptions.text
    }
    return out
  }

  private var deleteList: String {
    pendingDeletes.sorted { $0.key < $1.key }.map { ($0.value ? "!" : "") + $0.key }
      .joined(separator: ",")
  }

  // MARK: changing

  /// Notes a value for the next start.
  mutating func propose(_ key: String, _ value: String) {
    pendingDeletes[key] = nil
    pending[key] = value
  }

  /// Notes that an option goes with the next start.
  mutating func proposeDelete(_ key: String, force: Bool) {
    pending[key] = nil
    pendingDeletes[key] = force
  }

  /// Forgets proposals that change nothing.
  mutating func tidyPending() {
    for option in pending.options where options[option.key] == option.value {
      pending[option.key] = nil
    }
    for key in pendingDeletes.keys where options[key] == nil { pendingDeletes[key] = nil }
  }

  /// Notes a volume that is no longer used; nil where it is noted already or all places are taken.
  @discardableResult
  mutating func addUnused(_ volume: String) -> String? {
    let taken = options.options.filter { $0.key.hasPrefix("unused") }
    guard !taken.contains(where: { $0.value == volume }),
      let free = (0..<256).first(where: { options["unused\($0)"] == nil })
    else { return nil }
    options["unused\(free)"] = volume
    return "unused\(free)"
  }

  /// A copy of the current options for a snapshot, or of a snapshot's for the current ones.
  static func copied(_ source: OptionList) -> OptionList {
    var copy = OptionList()
    let left: Set<String> = ["lock", "description", "snaptime", "vmstate", "snapstate", "digest"]
    for option in source.options
    where !left.contains(option.key) && !option.key.hasPrefix("unused") {
      copy[option.key] = option.value
    }
    return copy
  }
}

// MARK: answers

extension GuestConfig.Snapshot {
  /// With what is said about the snapshot itself.
  var allOptions: OptionList {
    var all = options
    all["parent"] = parent
    all["snaptime"] = String(time)
    if let description, !description.isEmpty { all["description"] = description }
    all["vmstate"] = vmstate
    all["snapstate"] = state
    return all
  }
}

extension GuestConfig {
  /// `GET …/config`.
  func answer(_ options: OptionList, _ kind: SimulatedGuest.Kind, withDigest: Bool = true) -> JSON {
    var members = options.options.map { option in
      JSON.Member(key: option.key, value: GuestOptions.json(option.key, option.value, kind))
    }
    if withDigest { members.append(.init(key: "digest", value: .string(digest))) }
    return .object(members)
  }

  /// `GET …/pending`.
  func pendingAnswer(_ kind: SimulatedGuest.Kind) -> JSON {
    var rows: [JSON] = []
    for option in options.options {
      var members: [JSON.Member] = [
        .init(key: "key", value: .string(option.key)),
        .init(key: "value", value: .string(option.value)),
      ]
      if let value = pending[option.key] {
        members.append(
          .init(key: "pending", value: .string(value)))
      }
      if let force = pendingDeletes[option.key] {
        members.append(.init(key: "delete", value: force ? 2 : 1))
      }
      rows.append(.object(members))
    }
    for option in pending.options where options[option.key] == nil {
      rows.append([
        "key": .string(option.key), "pending": .string(option.value),
      ])
    }
    rows.append(["key": "digest", "value": .string(digest)])
    return .array(rows)
  }
}

// MARK: kept state

extension GuestConfig {
  var document: JSON {
    .object([
      .init(key: "options", value: options.document),
      .init(key: "pending", value: pending.document),
      .init(
        key: "delete",
        value: .object(
          pendingDeletes.sorted { $0.key < $1.key }
            .map { .init(key: $0.key, value: .flag($0.value)) })),
      .init(
        key: "snapshots",
        value: .object(
          snapshots.sorted { $0.key < $1.key }.map { .init(key: $0.key, value: $0.value.document) }
        )),
    ])
  }

  init(document: JSON?) {
    options = OptionList(document: document?["options"])
    pending = OptionList(document: document?["pending"])
    if case .object(let members)? = document?["delete"] {
      for member in members { pendingDeletes[member.key] = member.value == 1 }
    }
    if case .object(let members)? = document?["snapshots"] {
      for member in members { snapshots[member.key] = Snapshot(document: member.value) }
    }
  }
}

extension GuestConfig.Snapshot {
  var document: JSON {
    func text(_ value: String?) -> JSON { value.map { .string($0) } ?? .null }
    return [
      "options": options.document, "description": text(description), "time": .int(time),
      "parent": text(parent), "vmstate": text(vmstate), "state": text(state),
    ]
  }

  init(document: JSON) {
    func text(_ key: String) -> String? {
      if case .string(let value)? = document[key] { value } else { nil }
    }
    options = OptionList(document: document["options"])
    description = text("description")
    if case .int(let time)? = document["time"] { self.time = time }
    parent = text("parent")
    vmstate = text("vmstate")
    state = text("state")
  }
}
