/// What a key may do.
package enum APIRight: String, Sendable, Hashable, CaseIterable {
  /// Make, list and end console links.
  case consoles
  /// Read the inventory.
  case inventory
  /// Run commands, and see the jobs that this key has ordered.
  case exec
  /// See and change the jobs of every key.
  case execAll = "exec-all"

  /// What a key without `rights` may do.
  package static let usual: Set<APIRight> = [.consoles, .inventory, .exec]
}
