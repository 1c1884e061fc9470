import COpenSSL
import ConsoleProtocol
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// Seconds since 1970, from outside so that a test can say what time it is.
struct WallClock: Sendable {
  let now: @Sendable () -> Int
  static let system = WallClock { time(nil) }
}

/// Time-based one-time passwords (RFC 6238 over RFC 4226) with HMAC-SHA-1.
enum TOTP {
  /// The code of one time step.
  /// - Returns: as many decimal digits as asked for (6 to 8), or nil if OpenSSL refuses.
  static func code(key: [UInt8], counter: UInt64, digits: Int = 6) -> String? {
    let message = (0..<8).map { UInt8(truncatingIfNeeded: counter >> (56 - 8 * UInt64($0))) }
    var mac = [UInt8](repeating: 0, count: 20)
    var length: UInt32 = 0
    guard HMAC(EVP_sha1(), key, Int32(key.count), message, message.count, &mac, &length) != nil,
      length == 20, let last = mac.last
    else { return nil }
    let offset = Int(last & 15)
    let word = mac[offset..<offset + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7FFF_FFFF
    let modulus: UInt32 = digits == 8 ? 100_000_000 : digits == 7 ? 10_000_000 : 1_000_000
    let text = String(word % modulus)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  /// Base32 (RFC 4648) in either case; white space, hyphens and padding are passed over. Nil for anything else.
  static func base32(_ text: String) -> [UInt8]? {
    var out: [UInt8] = []
    var buffer: UInt32 = 0
    var bits = 0
    for c in text.utf8 {
      let value: UInt32
      switch c {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = UInt32(c - UInt8(ascii: "A"))
      case UInt8(ascii: "a")...UInt8(ascii: "z"): value = UInt32(c - UInt8(ascii: "a"))
      case UInt8(ascii: "2")...UInt8(ascii: "7"): value = UInt32(c - UInt8(ascii: "2")) + 26
      case UInt8(ascii: " "), UInt8(ascii: "-"), UInt8(ascii: "="), 9, 10, 13: continue
      default: return nil
      }
      buffer = (buffer << 5 | value) & 0xFFF
      bits += 5
      if bits >= 8 {
        bits -= 8
        out.append(UInt8(truncatingIfNeeded: buffer >> UInt32(bits)))
      }
    }
    return out.isEmpty ? nil : out
  }
}

/// Hands out codes, each time step once: PVE refuses a code that it has seen, and takes the next step's early.
final class TOTPGenerator: Sendable {
  /// The configured secret isn't base32.
  struct BadSecret: Error, CustomStringConvertible {
    var description: String { "the TOTP secret is not base32" }
  }

  private let secret: Secret
  private let clock: WallClock
  private let last = Mutex<UInt64>(0)

  init(secret: Secret, clock: WallClock) {
    self.secret = secret
    self.clock = clock
  }

  /// Six digits. Waits where the code would be more than one step early.
  func next() async throws -> String {
    guard let key = TOTP.base32(secret.reveal()) else { throw BadSecret() }
    while true {
      let step = UInt64(max(0, clock.now())) / 30
      let counter: UInt64? = last.withLock { last in
        let counter = max(step, last + 1)
        guard counter <= step + 1 else { return nil }
        last = counter
        return counter
      }
      if let counter {
        guard let code = TOTP.code(key: key, counter: counter) else { throw BadSecret() }
        return code
      }
      try await Task.sleep(for: .seconds(1))
    }
  }
}
