import COpenSSL
import CSallyport
import ConsoleProtocol
import Glibc

/// Why a TLS peer was not accepted: what was expected, what was seen, and the reason in words.
public struct TLSMismatch: Error, Sendable, Hashable, CustomStringConvertible {
  /// The pinned fingerprint, where one is configured.
  public let expected: Fingerprint?
  /// The fingerprint of the certificate that the peer showed.
  public let seen: Fingerprint?
  /// OpenSSL's verdict, or that the fingerprints differ.
  public let reason: String
  /// One sentence with both fingerprints.
  public var description: String {
    var text = "the certificate is not trusted: \(reason)"
    if let expected { text += "; expected \(expected)" }
    if let seen { text += "; seen \(seen)" }
    return text
  }
}

/// OpenSSL settings for one side of many connections.
///
/// Proof of `@unchecked Sendable`: an `SSL_CTX` that is no longer changed may be used by many threads
/// (SSL_CTX_new(3)); both pointers are constant after the factory functions return.
public final class TLSContext: @unchecked Sendable {
  let pointer: OpaquePointer
  let policy: TLSPolicy?

  private init(_ pointer: OpaquePointer, policy: TLSPolicy?) {
    self.pointer = pointer
    self.policy = policy
  }

  deinit { SSL_CTX_free(pointer) }

  /// For connections that we open, under a policy: TLS 1.2 or later.
  /// - Throws: ``LoopError/tls(_:)`` naming the file that can't be used.
  public static func client(_ policy: TLSPolicy) throws(LoopError) -> TLSContext {
    guard let context = SSL_CTX_new(TLS_client_method()) else { throw .tls(opensslReason()) }
    let made = TLSContext(context, policy: policy)
    _ = sp_ssl_ctx_min_tls12(context)
    sp_ssl_ctx_modes(context)
    sp_ssl_ctx_ignore_eof(context)
    sp_ssl_ctx_session_cache(context, 0)
    // The verdict is read after the handshake and before the first byte of ours, so that the certificate that was
    // refused can be shown.
    SSL_CTX_set_verify(context, Int32(sp_ssl_verify_none()), nil)
    switch policy.trust {
    case .systemCAs:
      guard SSL_CTX_set_default_verify_paths(context) == 1 else { throw .tls(opensslReason()) }
    case .caFile(let path):
      guard SSL_CTX_load_verify_locations(context, path, nil) == 1 else {
        throw .tls("the CA file '\(path)' can't be used: \(opensslReason())")
      }
    case .fingerprint, .insecure: break
    }
    if let own = policy.clientCertificate {
      guard SSL_CTX_use_certificate_chain_file(context, own.certificateFile) == 1 else {
        throw .tls(
          "the client certificate '\(own.certificateFile)' can't be used: \(opensslReason())")
      }
      guard SSL_CTX_use_PrivateKey_file(context, own.keyFile, SSL_FILETYPE_PEM) == 1 else {
        throw .tls("the client key '\(own.keyFile)' can't be used: \(opensslReason())")
      }
    }
    return made
  }

  /// For connections that we accept, from PEM text (certificate, then its chain).
  /// - Throws: ``LoopError/tls(_:)`` where certificate and key can't be read or don't match.
  public static func server(certificatePEM: String, keyPEM: Secret) throws(LoopError) -> TLSContext
  {
    guard let context = SSL_CTX_new(TLS_server_method()) else { throw .tls(opensslReason()) }
    let made = TLSContext(context, policy: nil)
    _ = sp_ssl_ctx_min_tls12(context)
    sp_ssl_ctx_modes(context)
    sp_ssl_ctx_ignore_eof(context)
    try useChain(context, certificatePEM)
    guard let bio = memory(keyPEM.reveal()) else { throw .tls(opensslReason()) }
    defer { BIO_free(bio) }
    guard let key = PEM_read_bio_PrivateKey(bio, nil, nil, nil) else {
      throw .tls("the private key is not PEM: \(opensslReason())")
    }
    defer { EVP_PKEY_free(key) }
    guard SSL_CTX_use_PrivateKey(context, key) == 1, SSL_CTX_check_private_key(context) == 1 else {
      throw .tls("the private key does not belong to the certificate: \(opensslReason())")
    }
    return made
  }

  private static func useChain(_ context: OpaquePointer, _ pem: String) throws(LoopError) {
    guard let bio = memory(pem) else { throw .tls(opensslReason()) }
    defer { BIO_free(bio) }
    guard let leaf = PEM_read_bio_X509(bio, nil, nil, nil) else {
      throw .tls("the certificate is not PEM: \(opensslReason())")
    }
    defer { X509_free(leaf) }
    guard SSL_CTX_use_certificate(context, leaf) == 1 else { throw .tls(opensslReason()) }
    while let next = PEM_read_bio_X509(bio, nil, nil, nil) {
      // SSL_CTX_add_extra_chain_cert is a macro; it takes ownership.
      if SSL_CTX_ctrl(context, SSL_CTRL_EXTRA_CHAIN_CERT, 0, UnsafeMutableRawPointer(next)) != 1 {
        X509_free(next)
      }
    }
    ERR_clear_error()
  }

  private static func memory(_ text: String) -> OpaquePointer? {
    // BIO_new_mem_buf does not copy, so the bytes are written into a growing BIO instead.
    guard let bio = BIO_new(BIO_s_mem()) else { return nil }
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { BIO_write(bio, $0.baseAddress, Int32($0.count)) }
    return bio
  }

  /// A new connection over a descriptor.
  func connection(descriptor: Int32, serverName: String?) -> OpaquePointer? {
    guard let ssl = SSL_new(pointer) else { return nil }
    guard SSL_set_fd(ssl, descriptor) == 1 else {
      SSL_free(ssl)
      return nil
    }
    guard let policy else {
      SSL_set_accept_state(ssl)
      return ssl
    }
    SSL_set_connect_state(ssl)
    if let serverName {
      let isIP = SocketAddress(ip: serverName, port: 0) != nil
      if !isIP { _ = sp_ssl_set_sni(ssl, serverName) }
      switch policy.trust {
      case .systemCAs, .caFile:
        let parameters = SSL_get0_param(ssl)
        if isIP {
          X509_VERIFY_PARAM_set1_ip_asc(parameters, serverName)
        } else {
          X509_VERIFY_PARAM_set1_host(parameters, serverName, 0)
        }
      case .fingerprint, .insecure: break
      }
    }
    return ssl
  }

  /// Whether the peer of a finished handshake is the one that the policy wants. Nil means yes.
  func verdict(_ ssl: OpaquePointer) -> TLSMismatch? {
    guard let policy else { return nil }
    let seen = TLSContext.fingerprint(ssl)
    switch policy.trust {
    case .insecure: return nil
    case .fingerprint(let expected):
      guard let seen else {
        return TLSMismatch(expected: expected, seen: nil, reason: "the peer showed no certificate")
      }
      let same = expected.bytes.withUnsafeBytes { a in
        seen.bytes.withUnsafeBytes { b in CRYPTO_memcmp(a.baseAddress, b.baseAddress, 32) == 0 }
      }
      return same
        ? nil
        : TLSMismatch(expected: expected, seen: seen, reason: "its fingerprint is another one")
    case .systemCAs, .caFile:
      let result = SSL_get_verify_result(ssl)
      guard result != Int(X509_V_OK) || seen == nil else { return nil }
      return TLSMismatch(
        expected: nil, seen: seen, reason: String(cString: X509_verify_cert_error_string(result)))
    }
  }

  static func fingerprint(_ ssl: OpaquePointer) -> Fingerprint? {
    guard let certificate = SSL_get1_peer_certificate(ssl) else { return nil }
    defer { X509_free(certificate) }
    var digest = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
    var length: UInt32 = 0
    guard X509_digest(certificate, EVP_sha256(), &digest, &length) == 1 else { return nil }
    return Fingerprint(bytes: Array(digest.prefix(Int(length))))
  }
}

/// The latest entry of OpenSSL's error queue in words; the queue is emptied.
func opensslReason() -> String {
  var text = "no reason given"
  while true {
    let code = ERR_get_error()
    guard code != 0 else { return text }
    if let reason = ERR_reason_error_string(code) {
      text = String(cString: reason)
    } else if code & 0x8000_0000 != 0 {
      // ERR_SYSTEM_FLAG: the rest is an errno (a macro in OpenSSL 3).
      text = String(cString: strerror(Int32(code & 0x7fff_ffff)))
    }
  }
}
