import COpenSSL
import ConsoleProtocol

/// A key that may use the API. Only its SHA-256 is kept.
package struct APIKey: Sendable, Hashable {
  /// Shorter ones could be guessed.
  package static let minimumLength = 16
  /// Who uses it, for the log.
  package let name: String
  /// What it may do.
  package var rights = APIRight.usual
  /// What its commands are limited to.
  package var policy: ExecPolicy?
  let digest: [UInt8]

  /// Nil for a key that is too short.
  package init?(name: String, secret: Secret) {
    guard secret.reveal().utf8.count >= APIKey.minimumLength else { return nil }
    let digest = Random.sha256(secret.reveal())
    guard digest.count == 32 else { return nil }
    self.name = name
    self.digest = digest
  }

  /// Whether it may.
  package func has(_ right: APIRight) -> Bool {
    rights.contains(right) || (right == .exec && rights.contains(.execAll))
  }

  /// - Throws: 403 where it may not.
  package func demand(_ right: APIRight) throws(Problem) {
    guard !has(right) else { return }
    throw Problem(
      403, "right-missing", "The key '\(name)' has no right to '\(right.rawValue)'.",
      remedy:
        "Add '\(right.rawValue)' to the key's rights in the configuration, or use another key.")
  }

  /// A new key and the secret to give to whoever uses it.
  package static func generate(name: String) -> (key: APIKey, secret: Secret)? {
    guard let secret = Random.token(), let key = APIKey(name: name, secret: secret) else {
      return nil
    }
    return (key, secret)
  }
}

extension [APIKey] {
  /// The key that a request carries. Every key is compared, whole, whatever the ones before said.
  func match(_ secret: Secret) -> APIKey? {
    let digest = Random.sha256(secret.reveal())
    // Nothing compared with nothing would be equal.
    guard digest.count == 32 else { return nil }
    var found: APIKey?
    for key in self where CRYPTO_memcmp(key.digest, digest, digest.count) == 0 { found = key }
    return found
  }
}

/// Random names and digests from OpenSSL.
enum Random {
  /// 256 random bits, in the letters of base64url. Nil when the system has no randomness, in which case nothing may be
  /// handed out.
  static func token() -> Secret? { text(bytes: 32).map { Secret($0) } }

  /// So many random bytes in the letters of base64url.
  static func text(bytes count: Int) -> String? {
    var bytes = [UInt8](repeating: 0, count: count)
    guard RAND_bytes(&bytes, Int32(count)) == 1 else { return nil }
    return base64url(bytes)
  }

  /// 32 bytes, or none if OpenSSL refuses.
  static func sha256(_ text: String) -> [UInt8] { sha256(Array(text.utf8)) }

  /// 32 bytes, or none if OpenSSL refuses.
  static func sha256(_ bytes: [UInt8]) -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 0
    guard EVP_Digest(bytes, bytes.count, &digest, &length, EVP_sha256(), nil) == 1 else {
      return []
    }
    return digest
  }

  /// Without padding (RFC 4648 §5).
  static func base64url(_ bytes: [UInt8]) -> String {
    let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
    var out: [UInt8] = []
    var buffer: UInt32 = 0
    var bits = 0
    for byte in bytes {
      buffer = (buffer << 8 | UInt32(byte)) & 0xFFFF
      bits += 8
      while bits >= 6 {
        bits -= 6
        out.append(letters[Int(buffer >> UInt32(bits) & 63)])
      }
    }
    if bits > 0 { out.append(letters[Int(buffer << UInt32(6 - bits) & 63)]) }
    return String(decoding: out, as: UTF8.self)
  }
}
