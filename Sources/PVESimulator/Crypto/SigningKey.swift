import COpenSSL

/// The cluster's authentication key: RSA-2048, as in `/etc/pve/authkey.key`. It signs every ticket.
///
/// Making one takes about a tenth of a second, so a process makes one and its simulators share it; the first
/// start begins to make it in the background and nobody waits before the first ticket.
final class SigningKey: @unchecked Sendable {
  // Safe: `key` is never changed after init, and OpenSSL's EVP_PKEY may be used by several threads at once as
  // long as none of them changes it.
  private let key: OpaquePointer

  /// The one of this process.
  static let shared = SigningKey()

  /// A new one. Not on a loop: it takes its time.
  init() {
    // nil only when OpenSSL can't make an RSA key at all; signing then gives no ticket, and every login fails.
    var made: OpaquePointer?
    if let context = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, nil) {
      EVP_PKEY_keygen_init(context)
      EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048)
      EVP_PKEY_keygen(context, &made)
      EVP_PKEY_CTX_free(context)
    }
    key = made ?? EVP_PKEY_new()
  }

  /// A key from its PEM form; nil for anything else.
  init?(pem: String) {
    let bytes = Array(pem.utf8)
    guard let bio = BIO_new_mem_buf(bytes, Int32(bytes.count)) else { return nil }
    defer { BIO_free(bio) }
    guard let read = PEM_read_bio_PrivateKey(bio, nil, nil, nil) else { return nil }
    key = read
  }

  deinit { EVP_PKEY_free(key) }

  /// The private key in PEM, for the state file.
  var pem: String {
    guard let bio = BIO_new(BIO_s_mem()) else { return "" }
    defer { BIO_free(bio) }
    guard PEM_write_bio_PrivateKey(bio, key, nil, nil, 0, nil, nil) == 1 else { return "" }
    var out: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let n = BIO_read(bio, &chunk, Int32(chunk.count))
      guard n > 0 else { return String(decoding: out, as: UTF8.self) }
      out += chunk.prefix(Int(n))
    }
  }

  /// 256 bytes of signature (PKCS#1, SHA-256).
  func sign(_ text: String) -> [UInt8] {
    guard let context = EVP_MD_CTX_new() else { return [] }
    defer { EVP_MD_CTX_free(context) }
    let message = Array(text.utf8)
    var out = [UInt8](repeating: 0, count: 512)
    var length = out.count
    guard EVP_DigestSignInit(context, nil, EVP_sha256(), nil, key) == 1,
      EVP_DigestSign(context, &out, &length, message, message.count) == 1
    else { return [] }
    return Array(out.prefix(length))
  }

  /// Whether the signature is this key's over this text.
  func verify(_ text: String, signature: [UInt8]) -> Bool {
    guard let context = EVP_MD_CTX_new() else { return false }
    defer { EVP_MD_CTX_free(context) }
    let message = Array(text.utf8)
    guard EVP_DigestVerifyInit(context, nil, EVP_sha256(), nil, key) == 1 else { return false }
    return EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
  }
}
