import GuestExec

/// What a key's commands are limited to, as the configuration says it: see ``ExecPolicy``.
package struct ExecRules: Sendable, Hashable {
  /// Globs of targets (`qemu/*`, `lxc/200`, `node/pve1`), names, or `tag=web`; nil for all.
  package var targets: [String]?
  /// Transports; nil for all.
  package var transports: [TransportName]?
  /// Regular expressions, one of which the arguments, joined by spaces, must match; nil for any command.
  package var argv: [String]?
  /// No rule.
  package init(
    targets: [String]? = nil, transports: [TransportName]? = nil, argv: [String]? = nil
  ) {
    self.targets = targets
    self.transports = transports
    self.argv = argv
  }
}

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
