import CLibcurl
import COpenSSL
import ConsoleProtocol

/// Looks at a host's certificate inside the TLS handshake, that is before a byte of the request leaves: compares it with
/// the pin, or lets OpenSSL verify the chain and notes which certificate it was about.
///
/// It lives as long as its transfer; handshakes only happen while the transfer does, because removing an easy handle
/// closes a connection that isn't up yet.
final class CertificateVerifier {
  /// The only certificate that counts, if any.
  var pin: Fingerprint?
  /// What the host showed.
  private(set) var seen: Fingerprint?
  /// Whether it was refused here.
  private(set) var refused = false
  /// Why, in a sentence.
  private(set) var complaint: String?

  /// OpenSSL's question: is this chain good?
  fileprivate func verify(_ context: OpaquePointer) -> Bool {
    guard let leaf = X509_STORE_CTX_get0_cert(context), let print = Self.fingerprint(of: leaf)
    else {
      return refuse("the host showed no certificate")
    }
    seen = print
    guard let pin else {
      if X509_verify_cert(context) == 1 { return true }
      let code = X509_STORE_CTX_get_error(context)
      let why = X509_verify_cert_error_string(Int(code)).map { String(cString: $0) } ?? "untrusted"
      return refuse("the host's certificate isn't trusted: \(why) (certificate \(print))")
    }
    guard pin.bytes.elementsEqual(print.bytes) else {
      X509_STORE_CTX_set_error(context, X509_V_ERR_CERT_REJECTED)
      return refuse("the host's certificate is \(print), and \(pin) is the one that is pinned")
    }
    X509_STORE_CTX_set_error(context, X509_V_OK)
    return true
  }

  private func refuse(_ sentence: String) -> Bool {
    refused = true
    complaint = sentence
    return false
  }

  static func fingerprint(of certificate: OpaquePointer) -> Fingerprint? {
    var digest = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 32
    guard X509_digest(certificate, EVP_sha256(), &digest, &length) == 1 else { return nil }
    return Fingerprint(bytes: Array(digest.prefix(Int(length))))
  }
}

/// libcurl's chance to change the TLS context of a new connection.
func transferTLSContext(
  _: UnsafeMutableRawPointer?, _ context: UnsafeMutableRawPointer?,
  _ user: UnsafeMutableRawPointer?
) -> CURLcode {
  guard let context, let user else { return CURLE_SSL_CERTPROBLEM }
  let tls = OpaquePointer(context)
  SSL_CTX_set_cert_verify_callback(tls, verifyCertificate, user)
  // SSL_OP_NO_RENEGOTIATION: a second handshake on a kept connection would call a verifier that is gone.
  SSL_CTX_set_options(tls, 1 << 30)
  return CURLE_OK
}

private func verifyCertificate(_ context: OpaquePointer?, _ user: UnsafeMutableRawPointer?) -> Int32
{
  guard let context, let user else { return 0 }
  return Unmanaged<CertificateVerifier>.fromOpaque(user).takeUnretainedValue().verify(context)
    ? 1 : 0
}
