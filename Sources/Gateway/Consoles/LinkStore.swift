import ConsoleProtocol
import Synchronization

/// The links that wait for their viewers. A link's token is 256 random bits; only its SHA-256 is kept, it is good once
/// and for a limited time. What became of a token is remembered for a while, so that its bearer can be told.
final class LinkStore: Sendable {
  /// No more links may wait.
  struct Full: Error {}

  private enum State {
    case waiting
    case used
    case expired
    case withdrawn
  }

  private struct Link {
    /// Nil once it is over.
    var grant: Grant?
    let expires: ContinuousClock.Instant
    var state = State.waiting
  }

  private struct Links {
    var all: [[UInt8]: Link] = [:]
    /// The digests of links that are no longer waiting, oldest first.
    var over: [[UInt8]] = []
    var waiting = 0
    /// Sessions whose link was found expired and that ``LinkStore/sweep(at:)`` has not told of yet.
    var untold: [String] = []
  }

  private let links = Mutex(Links())
  private let maximum: Int
  /// How long the fate of a token is remembered after its end.
  private static let memory = Duration.seconds(3600)

  /// - Parameter maximum: how many may wait at a time; as many that are over are remembered.
  init(maximum: Int) { self.maximum = maximum }

  /// Makes a link.
  /// - Throws: ``Full``, also where the system has no randomness.
  func create(
    _ grant: Grant, ttl: Duration, at now: ContinuousClock.Instant = .now
  ) throws(Full) -> Secret {
    guard let token = Random.token() else { throw Full() }
    let digest = Random.sha256(token.reveal())
    guard digest.count == 32 else { throw Full() }
    let taken = links.withLock { links in
      guard links.waiting < maximum else { return false }
      links.all[digest] = Link(grant: grant, expires: now + ttl)
      links.waiting += 1
      return true
    }
    guard taken else { throw Full() }
    return token
  }

  /// Uses a link up.
  func redeem(
    _ token: Secret, at now: ContinuousClock.Instant = .now
  ) -> Result<Grant, Ending> {
    let digest = Random.sha256(token.reveal())
    return links.withLock { links in
      guard var link = links.all[digest] else { return .failure(Self.unknown) }
      let grant = link.grant
      if link.state == .waiting, link.expires <= now { link.state = .expired }
      let result: Result<Grant, Ending>
      switch link.state {
      case .waiting:
        guard let grant else { return .failure(Self.used) }
        link.state = .used
        result = .success(grant)
      case .used: return .failure(Self.used)
      case .expired:
        guard links.all[digest]?.state == .waiting else { return .failure(Self.expired) }
        if let grant { links.untold.append(grant.id) }
        result = .failure(Self.expired)
      case .withdrawn: return .failure(Self.withdrawn)
      }
      Self.retire(digest, link, in: &links, keep: maximum)
      return result
    }
  }

  /// Withdraws the link of a session that nobody came for.
  func withdraw(id: String) -> Bool {
    links.withLock { links in
      guard
        let found = links.all.first(where: {
          $0.value.grant?.id == id && $0.value.state == .waiting
        }
        )
      else { return false }
      var link = found.value
      link.state = .withdrawn
      Self.retire(found.key, link, in: &links, keep: maximum)
      return true
    }
  }

  /// Ends the links whose time is over, forgets those that ended long ago, and gives the sessions that nobody came for.
  func sweep(at now: ContinuousClock.Instant = .now) -> [String] {
    links.withLock { links in
      var expired = links.untold
      links.untold = []
      for (digest, link) in links.all where link.state == .waiting && link.expires <= now {
        var over = link
        over.state = .expired
        if let grant = link.grant { expired.append(grant.id) }
        Self.retire(digest, over, in: &links, keep: maximum)
      }
      let old = links.over.prefix { digest in
        links.all[digest].map { $0.expires + Self.memory <= now } ?? true
      }.count
      for digest in links.over.prefix(old) { links.all[digest] = nil }
      links.over.removeFirst(old)
      return expired
    }
  }

  /// How many wait.
  var waiting: Int { links.withLock { $0.waiting } }

  private static func retire(
    _ digest: [UInt8], _ link: Link, in links: inout Links, keep: Int
  ) {
    if links.all[digest]?.state == .waiting { links.waiting -= 1 }
    var over = link
    over.grant = nil
    links.all[digest] = over
    links.over.append(digest)
    if links.over.count > keep {
      // In one go, so that it costs little per link.
      let surplus = links.over.count - keep + keep / 8
      for old in links.over.prefix(surplus) { links.all[old] = nil }
      links.over.removeFirst(min(surplus, links.over.count))
    }
  }

  private static let unknown = Ending(
    hop: .gateway, kind: .linkUnknown, sentence: "There is no such link.",
    remedy: "Check that the whole address was copied, or ask for a new link.")
  private static let used = Ending(
    hop: .gateway, kind: .linkUsed, sentence: "This link has been used; each is good once.",
    remedy: "Ask for a new link.")
  private static let expired = Ending(
    hop: .gateway, kind: .linkExpired, sentence: "This link's time is over.",
    remedy: "Ask for a new link, and open it soon.")
  private static let withdrawn = Ending(
    hop: .gateway, kind: .closedByOperator, sentence: "This link was withdrawn.",
    remedy: "Ask for a new link.")
}
