/// What somebody may do on a path.
struct Grant {
  /// The privileges.
  var privileges: PrivilegeSet = []
  /// Those of them that hold for what is below the path too.
  var propagated: PrivilegeSet = []
  /// Whether the role `NoAccess` is among those that apply; nothing else counts then.
  var isNoAccess = false

  static let none = Grant()

  /// Adds a role's privileges.
  mutating func add(_ role: String, _ privileges: PrivilegeSet, propagates: Bool) {
    if role == "NoAccess" { isNoAccess = true }
    self.privileges.formUnion(privileges)
    if propagates { propagated.formUnion(privileges) }
  }

  /// With what pools give to their members: it counts beside the path's own roles, except that `NoAccess` wins on
  /// either side.
  func joined(with pool: Grant) -> Grant {
    if isNoAccess { return self }
    if pool.isNoAccess { return Grant(isNoAccess: true) }
    return Grant(privileges: privileges.union(pool.privileges), propagated: propagated)
  }

  /// What both a token and its user have.
  func cut(to other: Grant) -> Grant {
    Grant(
      privileges: privileges.intersection(other.privileges),
      propagated: propagated.intersection(other.propagated), isNoAccess: isNoAccess)
  }
}

/// The part of the ACL that is about one user or token, compiled so that a path costs a few look-ups however large the
/// ACL is.
///
/// On the way down from `/`, roles given on a deeper path replace those from above. On each path a user's own roles
/// come before those of groups.
final class CompiledSubject {
  /// What one path of the ACL says.
  struct Rule {
    /// For the path itself.
    var here: Grant?
    /// For what is below it.
    var below: Grant?
  }

  enum Kind {
    /// Has every privilege everywhere.
    case root(PrivilegeSet)
    /// A user, or a separated token, whose rights are cut to its owner's; root's tokens have no such limit.
    case listed(owner: CompiledSubject?)
  }

  let kind: Kind
  private let rules: [String: Rule]
  private let guestRules: [Int: Rule]
  /// Slashes in the longest path that has a rule.
  private let depth: Int
  /// What `/vms` hands down, looked up once: lists ask for every guest.
  private var aboveGuests: Grant?
  /// What pools give to their members, by pool.
  private var ofPools: [String: Grant] = [:]

  init(_ kind: Kind, rules: [String: Rule] = [:]) {
    self.kind = kind
    self.rules = rules
    depth = rules.keys.map { path in path.utf8.count { $0 == UInt8(ascii: "/") } }.max() ?? 0
    var guestRules: [Int: Rule] = [:]
    for (path, rule) in rules {
      if let vmid = CompiledSubject.vmid(in: path) { guestRules[vmid] = rule }
    }
    self.guestRules = guestRules
  }

  /// The number in `/vms/NUMBER`.
  static func vmid(in path: String) -> Int? {
    guard path.hasPrefix("/vms/"), !path.utf8.dropFirst(5).isEmpty,
      path.utf8.dropFirst(5).allSatisfy({ (48...57).contains($0) })
    else { return nil }
    return Int(path.dropFirst(5))
  }

  /// What the ACL says on a path, without pools and owners.
  func listed(on path: String) -> Grant {
    guard !rules.isEmpty else { return .none }
    if path == "/" { return settled(rules["/"]?.here ?? .none) }
    var found = rules["/"]?.below ?? .none
    var level = 0
    for i in path.utf8.indices.dropFirst() where path.utf8[i] == UInt8(ascii: "/") {
      level += 1
      // Nothing further down has a rule.
      guard level <= depth else { return settled(found) }
      if let rule = rules[String(path[..<i])]?.below { found = rule }
    }
    if level < depth, let rule = rules[path]?.here { found = rule }
    return settled(found)
  }

  private func listedGuest(_ vmid: Int) -> Grant {
    guard !rules.isEmpty else { return .none }
    if let rule = guestRules[vmid]?.here { return settled(rule) }
    if let aboveGuests { return aboveGuests }
    let above = settled(rules["/vms"]?.below ?? rules["/"]?.below ?? .none)
    aboveGuests = above
    return above
  }

  /// `NoAccess` beside other roles of one path is `NoAccess` alone.
  private func settled(_ grant: Grant) -> Grant {
    grant.isNoAccess ? Grant(isNoAccess: true) : grant
  }

  private func ofPool(_ pool: String) -> Grant {
    if let known = ofPools[pool] { return known }
    let grant = listed(on: "/pool/\(pool)")
    ofPools[pool] = grant
    return grant
  }

  /// What it may do on a path; `pools` are those that the path's guest or storage is in.
  func grant(on path: String, pools: [String]) -> Grant {
    limited(pools.reduce(listed(on: path)) { $0.joined(with: ofPool($1)) }) {
      $0.grant(on: path, pools: pools)
    }
  }

  /// What it may do with a guest.
  func grant(onGuest vmid: Int, pool: String?) -> Grant {
    let own = listedGuest(vmid)
    return limited(pool.map { own.joined(with: ofPool($0)) } ?? own) {
      $0.grant(onGuest: vmid, pool: pool)
    }
  }

  private func limited(_ own: Grant, _ ofOwner: (CompiledSubject) -> Grant) -> Grant {
    switch kind {
    case .root(let all): Grant(privileges: all, propagated: all)
    case .listed(nil): own
    case .listed(let owner?): own.cut(to: ofOwner(owner))
    }
  }
}
