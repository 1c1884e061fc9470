import COpenSSL

/// What makes a TOTP's codes (RFC 6238), read from an `otpauth://totp/…` URI as PVE reads it.
struct TOTPCode: Equatable {
  enum Algorithm: String {
    case sha1 = "SHA1"
    case sha256 = "SHA256"
    case sha512 = "SHA512"
  }

  /// What is wrong with a URI, in PVE's words.
  struct Malformed: Error {
    let message: String
  }

  var secret: [UInt8]
  var digits = 6
  var algorithm = Algorithm.sha1
  /// Seconds that a code is shown for.
  var period = 30
  var issuer: String?
  var account: String

  init(secret: [UInt8], account: String) {
    self.secret = secret
    self.account = account
  }

  init(uri: String) throws(Malformed) {
    guard uri.hasPrefix("otpauth://totp/") else { throw Malformed(message: "not an otpauth uri") }
    let rest = uri.dropFirst(15)
    guard let mark = rest.firstIndex(of: "?") else {
      throw Malformed(message: "missing '?' in otp uri")
    }
    let label = rest[..<mark].split(
      separator: ":", maxSplits: 1, omittingEmptySubsequences: false
    ).map { percentDecoded($0.utf8, plusIsSpace: false) }
    secret = []
    account = label.last ?? ""
    issuer = label.count == 2 ? label.first : nil
    let query = rest[rest.index(after: mark)...]
    for pair in query.split(separator: "&", omittingEmptySubsequences: false) {
      let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let key = percentDecoded((halves.first ?? "").utf8, plusIsSpace: false)
      guard halves.count == 2 else { throw Malformed(message: "bad value in otpauth uri") }
      try set(key, percentDecoded(halves[1].utf8, plusIsSpace: false))
    }
    guard !secret.isEmpty else { throw Malformed(message: "missing secret in otpauth url") }
  }

  private mutating func set(_ key: String, _ value: String) throws(Malformed) {
    switch key {
    case "secret":
      guard let bytes = base32Decoded(value) else {
        throw Malformed(message: "failed to decode otp secret in otpauth url")
      }
      secret = bytes
    case "digits":
      guard let number = UInt8(value), (1...9).contains(number) else {
        throw Malformed(message: "invalid digit found in string")
      }
      digits = Int(number)
    case "algorithm":
      guard let known = Algorithm(rawValue: value) else {
        throw Malformed(message: "unsupported algorithm: \(value)")
      }
      algorithm = known
    case "period":
      guard let number = Int(value), number > 0 else {
        throw Malformed(message: "invalid digit found in string")
      }
      period = number
    case "issuer": issuer = value
    default: throw Malformed(message: "unrecognized otpauth uri parameter: \(key)")
    }
  }

  /// The URI, for the state file.
  var uri: String {
    let label = (issuer.map { percentEncoded($0) + ":" } ?? "") + percentEncoded(account)
    let tail = issuer.map { "&issuer=\(percentEncoded($0))" } ?? ""
    return "otpauth://totp/\(label)?secret=\(base32(secret))&digits=\(digits)"
      + "&algorithm=\(algorithm.rawValue)&period=\(period)\(tail)"
  }

  /// The code of a counter.
  func code(counter: Int) -> String {
    let message = (0..<8).map { UInt8(truncatingIfNeeded: counter >> (56 - 8 * $0)) }
    var mac = [UInt8](repeating: 0, count: 64)
    var length: UInt32 = 0
    let digest =
      switch algorithm {
      case .sha1: EVP_sha1()
      case .sha256: EVP_sha256()
      case .sha512: EVP_sha512()
      }
    HMAC(digest, secret, Int32(secret.count), message, message.count, &mac, &length)
    guard length > 0 else { return "" }
    let at = Int(mac[Int(length) - 1] & 15)
    let number = mac[at..<at + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7FFF_FFFF
    let limit = (0..<digits).reduce(UInt64(1)) { power, _ in power * 10 }
    let text = String(UInt64(number) % limit)
    return String(repeating: "0", count: digits - text.count) + text
  }

  /// The counter that a code is right for, up to one period off.
  func counter(of code: String, at now: Int) -> Int? {
    let given = Array(code.utf8)
    return (-1...1).map { now / period + $0 }.first { counter in
      constantTimeEqual(given, Array(self.code(counter: counter).utf8))
    }
  }
}

/// Base32 without padding.
func base32(_ bytes: [UInt8]) -> String {
  let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8)
  var out: [UInt8] = []
  var bits: UInt32 = 0
  var count = 0
  for byte in bytes {
    bits = bits << 8 | UInt32(byte)
    count += 8
    while count >= 5 {
      count -= 5
      out.append(alphabet[Int(bits >> UInt32(count) & 31)])
    }
    bits &= (1 << UInt32(count)) - 1
  }
  if count > 0 { out.append(alphabet[Int(bits << UInt32(5 - count) & 31)]) }
  return String(decoding: out, as: UTF8.self)
}
