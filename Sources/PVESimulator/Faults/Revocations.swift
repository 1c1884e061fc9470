/// Which login tickets were revoked before their time. Lives on the loop, with the office that makes them.
///
/// Tickets know their time in whole seconds only, so those that are issued in the very second of a revocation are
/// remembered by themselves: they are good.
final class Revocations {
  private var cutoffs: [String: Int] = [:]
  private var cutoffForAll: Int?
  private var fresh: Set<String> = []

  /// Tickets that were issued until now are bad: of one user, or all.
  func revoke(user: String?, now: Int) {
    fresh = []
    if let user {
      cutoffs[user] = now
    } else {
      cutoffForAll = now
      cutoffs = [:]
    }
  }

  /// A ticket was issued.
  func issued(_ ticket: String, user: String, now: Int) {
    if let cutoff = cutoff(user), now <= cutoff { fresh.insert(ticket) }
  }

  /// Whether a ticket of that time was revoked.
  func isRevoked(_ ticket: String, user: String, issued: Int) -> Bool {
    guard let cutoff = cutoff(user) else { return false }
    return issued <= cutoff && !fresh.contains(ticket)
  }

  /// As at the start.
  func clear() {
    cutoffs = [:]
    cutoffForAll = nil
    fresh = []
  }

  private func cutoff(_ user: String) -> Int? {
    switch (cutoffs[user], cutoffForAll) {
    case (let one?, let all?): max(one, all)
    case (let one, let all): one ?? all
    }
  }
}
