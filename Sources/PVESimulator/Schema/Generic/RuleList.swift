/// Firewall rules: a list in which each has a position, kept as one document.
struct RuleList {
  private let call: GenericCall
  private let place: String

  init(_ call: GenericCall, _ place: String) {
    self.call = call
    self.place = place
  }

  private var all: [JSON] {
    if case .array(let rules)? = call.objects[place, ""] { rules } else { [] }
  }

  private func save(_ rules: [JSON]) { call.objects.set(place, "", .array(rules)) }

  var rows: JSON { .array(all.enumerated().map { row($0.element, $0.offset) }) }

  func row(_ position: String) throws(APIError) -> JSON {
    let index = try index(position)
    return row(all[index], index)
  }

  private func row(_ rule: JSON, _ position: Int) -> JSON {
    rule.with("pos", .int(position)).with("digest", .string(call.digest(of: place)))
  }

  private func index(_ position: String) throws(APIError) -> Int {
    guard let index = Int(position), all.indices.contains(index) else {
      throw .died("no rule at position \(position)")
    }
    return index
  }

  /// New rules come to the top unless they have a position.
  func insert(_ rule: JSON, at position: String) {
    var rules = all
    rules.insert(rule.with("pos", nil), at: min(max(Int(position) ?? 0, 0), rules.count))
    save(rules)
  }

  func change(_ position: String, moveTo target: Int?, _ change: (JSON) -> JSON) throws(APIError) {
    let index = try index(position)
    try call.checkDigest(of: place)
    var rules = all
    if let target {
      let rule = rules.remove(at: index)
      // The target counts the rules as they were before.
      let end = target > index ? target - 1 : target
      rules.insert(rule, at: min(max(end, 0), rules.count))
    } else {
      rules[index] = change(rules[index]).with("pos", nil)
    }
    save(rules)
  }

  func remove(_ position: String) throws(APIError) {
    let index = try index(position)
    try call.checkDigest(of: place)
    var rules = all
    rules.remove(at: index)
    save(rules)
  }
}
