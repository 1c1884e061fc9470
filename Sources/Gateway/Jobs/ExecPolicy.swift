import GuestExec
import ProxmoxClient

/// What a key may run, and where.
package enum ExecPolicy {
  /// Checks an order against its key's rules. Called once the target was found, before anything is stored.
  /// - Parameter tags: the place's tags; asked for only where a rule needs them.
  /// - Throws: 403 with the rule that stands against it.
  static func check(
    _ order: JobOrder, place: JobPlace, key: APIKey
  ) throws(Problem) {
    guard key.rules == ExecRules() else {
      throw Problem(403, "exec-refused", "The key '\(key.name)' has rules that can't be checked.")
    }
  }
}
