import COpenSSL
import ConsoleProtocol
import Glibc
import Synchronization

/// A cluster CA and a node's certificate, made with OpenSSL when the first simulator of a process starts.
/// The keys are P-256: an RSA handshake costs the server five times as much, and nothing looks at the kind.
struct CertificateSet: Sendable {
  /// The CA certificate, PEM: what mint answers carry as `cert`.
  let caPEM: String
  /// The node's certificate, PEM.
  let certificatePEM: String
  /// The node's key, PEM.
  let keyPEM: Secret
  /// SHA-256 of the node's certificate.
  let fingerprint: Fingerprint
  /// SHA-256 of the CA certificate.
  let caFingerprint: Fingerprint
  /// When both became valid, in seconds since 1970.
  let notBefore: Int
  /// When the node's certificate stops being valid.
  let notAfter: Int
  /// When the CA certificate stops being valid.
  let caNotAfter: Int
  /// The cluster's identity in the CA's name.
  let clusterID: String
  /// Names and addresses for which the node's certificate stands.
  let alternativeNames: [String]

  /// The CA's name in OpenSSL's one-line form.
  var issuer: String {
    "/CN=Proxmox Virtual Environment/OU=\(clusterID)/O=PVE Cluster Manager CA"
  }

  private static let cache = Mutex<[[String]: [CertificateSet]]>([:])

  /// The sets for the nodes of a cluster, in their order, under one CA: one per process, or a fresh one (another
  /// identity, for tests of pinning).
  static func make(nodes: [String], fresh: Bool) throws(SimulatorError) -> [CertificateSet] {
    let made =
      fresh
      ? generate(nodes: nodes)
      : cache.withLock { cache in
        if let known = cache[nodes] { return known }
        let made = generate(nodes: nodes)
        cache[nodes] = made
        return made
      }
    guard let made else { throw .certificate("OpenSSL could not make a certificate") }
    return made
  }

  private static func generate(nodes: [String]) -> [CertificateSet]? {
    guard let caKey = ecKey(), let ca = X509_new() else { return nil }
    defer {
      EVP_PKEY_free(caKey)
      X509_free(ca)
    }
    let id = randomUUID()
    let name = caName(id)
    guard
      fill(ca, key: caKey, subject: name, issuer: name, days: 10 * 365),
      add(ca, issuer: ca, NID_basic_constraints, "critical,CA:TRUE"),
      add(ca, issuer: ca, NID_key_usage, "critical,keyCertSign,cRLSign"),
      add(ca, issuer: ca, NID_subject_key_identifier, "hash"),
      X509_sign(ca, caKey, EVP_sha256()) > 0
    else { return nil }
    let sets = nodes.compactMap { generate(node: $0, ca: ca, caKey: caKey, id: id) }
    return sets.count == nodes.count ? sets : nil
  }

  private static func caName(_ id: String) -> [(String, String)] {
    [("CN", "Proxmox Virtual Environment"), ("OU", id), ("O", "PVE Cluster Manager CA")]
  }

  private static func generate(
    node: String, ca: OpaquePointer, caKey: OpaquePointer, id: String
  ) -> CertificateSet? {
    guard let nodeKey = ecKey(), let certificate = X509_new() else { return nil }
    defer {
      EVP_PKEY_free(nodeKey)
      X509_free(certificate)
    }
    let year = 365 * 86_400
    let nodeName = [
      ("OU", "PVE Cluster Node"), ("O", "Proxmox Virtual Environment"), ("CN", node),
    ]
    let names = ["127.0.0.1", "::1", "localhost", node]
    let san = names.map { ($0.first?.isNumber == true || $0.contains(":") ? "IP:" : "DNS:") + $0 }
    let began = time(nil) - 3600
    guard
      fill(certificate, key: nodeKey, subject: nodeName, issuer: caName(id), days: 2 * 365),
      add(certificate, issuer: ca, NID_basic_constraints, "CA:FALSE"),
      add(certificate, issuer: ca, NID_ext_key_usage, "serverAuth"),
      add(certificate, issuer: ca, NID_subject_alt_name, san.joined(separator: ",")),
      add(certificate, issuer: ca, NID_subject_key_identifier, "hash"),
      add(certificate, issuer: ca, NID_authority_key_identifier, "keyid"),
      X509_sign(certificate, caKey, EVP_sha256()) > 0,
      let caPEM = pem({ PEM_write_bio_X509($0, ca) }),
      let certificatePEM = pem({ PEM_write_bio_X509($0, certificate) }),
      let keyPEM = pem({ PEM_write_bio_PrivateKey($0, nodeKey, nil, nil, 0, nil, nil) }),
      let print = fingerprint(certificate), let caPrint = fingerprint(ca)
    else { return nil }
    return CertificateSet(
      caPEM: caPEM, certificatePEM: certificatePEM, keyPEM: Secret(keyPEM), fingerprint: print,
      caFingerprint: caPrint, notBefore: began, notAfter: began + 2 * year,
      caNotAfter: began + 10 * year, clusterID: id, alternativeNames: names)
  }

  private static func ecKey() -> OpaquePointer? {
    guard let context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, nil) else { return nil }
    defer { EVP_PKEY_CTX_free(context) }
    var key: OpaquePointer?
    guard EVP_PKEY_keygen_init(context) == 1,
      EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) == 1,
      EVP_PKEY_keygen(context, &key) == 1
    else { return nil }
    return key
  }

  private static func fill(
    _ x: OpaquePointer, key: OpaquePointer, subject: [(String, String)], issuer: [(String, String)],
    days: Int
  ) -> Bool {
    X509_set_version(x, 2)
    let serial = randomBytes(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) } >> 1
    ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial)
    X509_gmtime_adj(X509_getm_notBefore(x), -3600)
    X509_gmtime_adj(X509_getm_notAfter(x), days * 86_400 - 3600)
    guard X509_set_pubkey(x, key) == 1, let s = X509_get_subject_name(x),
      let i = X509_get_issuer_name(x)
    else { return false }
    for (field, value) in subject {
      X509_NAME_add_entry_by_txt(s, field, MBSTRING_ASC | 0x1000, value, -1, -1, 0)
    }
    for (field, value) in issuer {
      X509_NAME_add_entry_by_txt(i, field, MBSTRING_ASC | 0x1000, value, -1, -1, 0)
    }
    return true
  }

  private static func add(_ x: OpaquePointer, issuer: OpaquePointer, _ nid: Int32, _ value: String)
    -> Bool
  {
    var context = X509V3_CTX()
    X509V3_set_ctx(&context, issuer, x, nil, nil, 0)
    guard let e = X509V3_EXT_conf_nid(nil, &context, nid, value) else { return false }
    defer { X509_EXTENSION_free(e) }
    return X509_add_ext(x, e, -1) == 1
  }

  private static func pem(_ write: (OpaquePointer) -> Int32) -> String? {
    guard let bio = BIO_new(BIO_s_mem()) else { return nil }
    defer { BIO_free(bio) }
    guard write(bio) == 1 else { return nil }
    var out: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let n = BIO_read(bio, &chunk, Int32(chunk.count))
      guard n > 0 else { break }
      out += chunk.prefix(Int(n))
    }
    return String(decoding: out, as: UTF8.self)
  }

  private static func fingerprint(_ x: OpaquePointer) -> Fingerprint? {
    var digest = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 0
    guard X509_digest(x, EVP_sha256(), &digest, &length) == 1 else { return nil }
    return Fingerprint(bytes: digest)
  }
}
