import COpenSSL

/// A digest of bytes that come in pieces.
final class RunningDigest {
  private let context: OpaquePointer

  /// - Parameter algorithm: `md5`, `sha1`, `sha224`, `sha256`, `sha384` or `sha512`; nil for any other.
  init?(_ algorithm: String) {
    let kinds = [
      "md5": EVP_md5, "sha1": EVP_sha1, "sha224": EVP_sha224, "sha256": EVP_sha256,
      "sha384": EVP_sha384, "sha512": EVP_sha512,
    ]
    guard let kind = kinds[algorithm], let context = EVP_MD_CTX_new() else { return nil }
    self.context = context
    guard EVP_DigestInit_ex(context, kind(), nil) == 1 else { return nil }
  }

  deinit { EVP_MD_CTX_free(context) }

  /// Takes bytes in.
  func update(_ bytes: UnsafeRawBufferPointer) {
    EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
  }

  /// The digest; to be asked for once.
  func finish() -> [UInt8] {
    var out = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
    var length: UInt32 = 0
    guard EVP_DigestFinal_ex(context, &out, &length) == 1 else { return [] }
    return Array(out.prefix(Int(length)))
  }
}
