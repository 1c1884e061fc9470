import EventLoop
import Glibc

/// The keys that tickets are signed with: the current one, and the one before it, with which logins may still be signed.
struct AuthKeys {
  /// A key lives for a day.
  static let life = 86_400

  /// Nil until the first ticket: the process's shared key takes a moment to be made.
  private var first: SigningKey?
  /// Seconds since 1970 when the current key became it.
  private(set) var since: Int
  /// The key before, and when it was replaced.
  private(set) var previous: (key: SigningKey, until: Int)?
  /// From when on the key before may have signed what only the current one should have: the new one was still being
  /// made.
  private var makingSince: Int?

  /// Keys that will be the process's shared one, half a day old.
  init(now: Int) { since = now - AuthKeys.life / 2 }

  /// The key that signs.
  var current: SigningKey {
    mutating get {
      let key = first ?? SigningKey.shared
      first = key
      return key
    }
  }

  /// Whether there is a key of its own that a state file should hold.
  var isMade: Bool { first != nil }

  func isDue(at now: Int) -> Bool { now - since >= AuthKeys.life }

  /// Puts a new key in the current one's place.
  mutating func rotate(to key: SigningKey, at now: Int, makingSince: Int? = nil) {
    previous = (current, now)
    first = key
    since = now
    self.makingSince = makingSince
  }

  /// Whether the key before was the one to sign with when a ticket was made.
  func signedWhileMaking(at time: Int) -> Bool { makingSince.map { time >= $0 } ?? false }

  // MARK: durable state

  /// Private keys in PEM.
  var document: JSON {
    mutating get {
      var members: [JSON.Member] = [
        .init(key: "current", value: .string(current.pem)), .init(key: "since", value: .int(since)),
      ]
      if let previous {
        members.append(.init(key: "previous", value: .string(previous.key.pem)))
        members.append(.init(key: "until", value: .int(previous.until)))
      }
      return .object(members)
    }
  }

  /// The keys of a document; nil where it holds none.
  init?(_ document: JSON) {
    guard case .string(let pem)? = document["current"], let key = SigningKey(pem: pem),
      case .int(let since)? = document["since"]
    else { return nil }
    first = key
    self.since = since
    if case .string(let pem)? = document["previous"], let key = SigningKey(pem: pem),
      case .int(let until)? = document["until"]
    {
      previous = (key, until)
    }
  }
}

/// A thread that makes one key and brings it to a loop.
enum KeyMaker {
  private final class Job {
    let deliver: @Sendable (SigningKey) -> Void
    init(_ deliver: @escaping @Sendable (SigningKey) -> Void) { self.deliver = deliver }
  }

  /// Makes a key on a thread of its own.
  static func make(_ deliver: @escaping @Sendable (SigningKey) -> Void) {
    let job = Unmanaged.passRetained(Job(deliver))
    var thread = pthread_t()
    let started = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        let job = Unmanaged<Job>.fromOpaque(argument).takeRetainedValue()
        job.deliver(SigningKey())
        return nil
      }, job.toOpaque())
    if started == 0 {
      pthread_detach(thread)
    } else {
      // No thread to be had: better slowly here than never.
      job.release()
      deliver(SigningKey())
    }
  }
}
