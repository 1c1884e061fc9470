import COpenSSL
import ConsoleProtocol

/// The server's side of TLS without a socket: bytes in, bytes out. For TLS inside of something else.
final class MemoryTLS {
  private let context: OpaquePointer
  private let ssl: OpaquePointer
  /// What came in and what has to go out; the connection owns both.
  private let input: OpaquePointer
  private let output: OpaquePointer
  private var isDone = false
  /// Whether TLS failed or the peer said goodbye.
  private(set) var isOver = false

  /// - Parameter certificates: whose certificate is shown; nil for an anonymous key exchange.
  init?(_ certificates: CertificateSet?) {
    guard let context = SSL_CTX_new(TLS_server_method()) else { return nil }
    guard MemoryTLS.prepare(context, certificates), let ssl = SSL_new(context) else {
      SSL_CTX_free(context)
      return nil
    }
    guard let input = BIO_new(BIO_s_mem()), let output = BIO_new(BIO_s_mem()) else {
      SSL_free(ssl)
      SSL_CTX_free(context)
      return nil
    }
    SSL_set_bio(ssl, input, output)
    SSL_set_accept_state(ssl)
    (self.context, self.ssl, self.input, self.output) = (context, ssl, input, output)
  }

  deinit {
    SSL_free(ssl)
    SSL_CTX_free(context)
  }

  private static func prepare(_ context: OpaquePointer, _ certificates: CertificateSet?) -> Bool {
    guard let certificates else {
      // Anonymous Diffie-Hellman: TLS 1.2 at most, with parameters that OpenSSL chooses.
      SSL_CTX_ctrl(context, 124 /* SSL_CTRL_SET_MAX_PROTO_VERSION */, 0x0303, nil)
      SSL_CTX_ctrl(context, 118 /* SSL_CTRL_SET_DH_AUTO */, 1, nil)
      return SSL_CTX_set_cipher_list(context, "aNULL:@SECLEVEL=0") == 1
    }
    guard let bio = memory(certificates.certificatePEM) else { return false }
    defer { BIO_free(bio) }
    guard let leaf = PEM_read_bio_X509(bio, nil, nil, nil) else { return false }
    defer { X509_free(leaf) }
    guard let keyText = memory(certificates.keyPEM.reveal()) else { return false }
    defer { BIO_free(keyText) }
    guard let key = PEM_read_bio_PrivateKey(keyText, nil, nil, nil) else { return false }
    defer { EVP_PKEY_free(key) }
    return SSL_CTX_use_certificate(context, leaf) == 1 && SSL_CTX_use_PrivateKey(context, key) == 1
  }

  private static func memory(_ text: String) -> OpaquePointer? {
    guard let bio = BIO_new(BIO_s_mem()) else { return nil }
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { BIO_write(bio, $0.baseAddress, Int32($0.count)) }
    return bio
  }

  /// Takes what the peer sent, and gives what was in it and what has to be sent for it.
  func open(_ bytes: UnsafeRawBufferPointer) -> (plain: [UInt8], reply: [UInt8]) {
    guard !isOver else { return ([], []) }
    ERR_clear_error()
    if !bytes.isEmpty { BIO_write(input, bytes.baseAddress, Int32(bytes.count)) }
    var plain: [UInt8] = []
    if !isDone {
      let result = SSL_do_handshake(ssl)
      if result == 1 { isDone = true } else { note(result) }
    }
    if isDone {
      var chunk = [UInt8](repeating: 0, count: 16_384)
      while true {
        let n = SSL_read(ssl, &chunk, Int32(chunk.count))
        guard n > 0 else {
          note(n)
          break
        }
        plain += chunk.prefix(Int(n))
      }
    }
    return (plain, takeOutput())
  }

  /// Encrypts.
  func seal(_ bytes: [UInt8]) -> [UInt8] {
    guard isDone, !isOver, !bytes.isEmpty else { return [] }
    ERR_clear_error()
    let n = SSL_write(ssl, bytes, Int32(bytes.count))
    if n <= 0 { note(n) }
    return takeOutput()
  }

  private func note(_ result: Int32) {
    switch SSL_get_error(ssl, result) {
    case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: break
    default: isOver = true
    }
  }

  private func takeOutput() -> [UInt8] {
    let waiting = BIO_ctrl(output, 10 /* BIO_CTRL_PENDING */, 0, nil)
    guard waiting > 0 else { return [] }
    var bytes = [UInt8](repeating: 0, count: Int(waiting))
    let n = BIO_read(output, &bytes, Int32(bytes.count))
    return Array(bytes.prefix(max(0, Int(n))))
  }
}
