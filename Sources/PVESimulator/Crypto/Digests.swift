import COpenSSL

/// Random bytes from OpenSSL's generator.
func randomBytes(_ count: Int) -> [UInt8] {
  var out = [UInt8](repeating: 0, count: count)
  // Fails only where the machine has no entropy at all; then nothing here is secret, and nothing works anyway.
  guard RAND_bytes(&out, Int32(count)) == 1 else { return out }
  return out
}

/// Random letters and digits, for passwords.
func randomPassword(_ count: Int) -> String {
  let alphabet = Array("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789".utf8)
  return String(
    decoding: randomBytes(count).map { alphabet[Int($0) % alphabet.count] }, as: UTF8.self)
}

/// A random UUID, the form of token secrets.
func randomUUID() -> String {
  var b = randomBytes(16)
  b[6] = b[6] & 0x0F | 0x40
  b[8] = b[8] & 0x3F | 0x80
  let t = Array(lowerHex(b))
  return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(t[$0]) }.joined(separator: "-")
}

/// SHA-256.
func sha256(_ bytes: [UInt8]) -> [UInt8] {
  var out = [UInt8](repeating: 0, count: 32)
  SHA256(bytes, bytes.count, &out)
  return out
}

/// SHA-1, for websocket handshakes and configuration digests.
func sha1(_ bytes: [UInt8]) -> [UInt8] {
  var out = [UInt8](repeating: 0, count: 20)
  SHA1(bytes, bytes.count, &out)
  return out
}

/// HMAC over SHA-256 (CSRF tokens) or SHA-1 (TOTP).
func hmac(key: [UInt8], _ message: [UInt8], sha1: Bool = false) -> [UInt8] {
  var out = [UInt8](repeating: 0, count: 64)
  var length: UInt32 = 0
  HMAC(
    sha1 ? EVP_sha1() : EVP_sha256(), key, Int32(key.count), message, message.count, &out, &length)
  return Array(out.prefix(Int(length)))
}

/// Equality in time that depends on the lengths alone.
func constantTimeEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
  guard a.count == b.count else { return false }
  return zip(a, b).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
}

/// Base64 with padding.
func base64(_ bytes: [UInt8]) -> String {
  var out = [UInt8](repeating: 0, count: (bytes.count + 2) / 3 * 4 + 1)
  let n = EVP_EncodeBlock(&out, bytes, Int32(bytes.count))
  return String(decoding: out.prefix(Int(n)), as: UTF8.self)
}

/// Reads base64 with padding; nil for anything else.
func base64Decoded(_ text: String) -> [UInt8]? {
  let bytes = Array(text.utf8)
  // EVP_DecodeBlock skips white space before the text, and white space and dashes behind it; here they are wrong.
  guard !bytes.isEmpty, bytes.count % 4 == 0, let first = bytes.first, let last = bytes.last,
    first > 32, last > 32, last != UInt8(ascii: "-")
  else { return nil }
  var out = [UInt8](repeating: 0, count: bytes.count / 4 * 3 + 1)
  let n = EVP_DecodeBlock(&out, bytes, Int32(bytes.count))
  guard n >= 0 else { return nil }
  let padding = bytes.suffix(2).count { $0 == 61 }
  return Array(out.prefix(Int(n) - padding))
}

/// Reads base32 (RFC 4648, padding optional), the form of TOTP secrets.
func base32Decoded(_ text: String) -> [UInt8]? {
  var out: [UInt8] = []
  var bits: UInt32 = 0
  var count = 0
  for c in text.utf8 where c != UInt8(ascii: "=") && c != 32 {
    let value: UInt8
    switch c {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = c - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): value = c - UInt8(ascii: "a")
    case UInt8(ascii: "2")...UInt8(ascii: "7"): value = c - UInt8(ascii: "2") + 26
    default: return nil
    }
    bits = bits << 5 | UInt32(value)
    count += 5
    if count >= 8 {
      count -= 8
      out.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
    }
  }
  return out.isEmpty ? nil : out
}

/// The six digits of RFC 6238 (SHA-1, 30 s) for a counter.
func totpCode(secret: [UInt8], counter: Int) -> String {
  let message = (0..<8).map { UInt8(truncatingIfNeeded: counter >> (56 - 8 * $0)) }
  let mac = hmac(key: secret, message, sha1: true)
  guard let last = mac.last else { return "" }
  let at = Int(last & 15)
  let number = mac[at..<at + 4].reduce(UInt32(0)) { $0 << 8 | UInt32($1) } & 0x7FFF_FFFF
  let text = String(number % 1_000_000)
  return String(repeating: "0", count: 6 - text.count) + text
}
