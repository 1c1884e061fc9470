/// How a PVE host proves that it is the right one. The same policy governs REST calls and websockets.
public struct TLSPolicy: Sendable, Hashable {
  /// What makes a host's certificate trusted.
  public enum Trust: Sendable, Hashable {
    /// The machine's certificate authorities, and the host's name.
    case systemCAs
    /// The authorities in a PEM file (PVE's own is `/etc/pve/pve-root-ca.pem`), and the host's name.
    case caFile(String)
    /// Exactly the certificate with this SHA-256 fingerprint; names and authorities don't count.
    case fingerprint(Fingerprint)
    /// Anything. Chosen by name only, never a default.
    case insecure
  }

  /// A certificate and key with which we present ourselves, both PEM files.
  public struct ClientCertificate: Sendable, Hashable {
    /// Path of the certificate (PEM, chain allowed).
    public var certificateFile: String
    /// Path of the private key (PEM).
    public var keyFile: String
    /// Names the two files.
    public init(certificateFile: String, keyFile: String) {
      self.certificateFile = certificateFile
      self.keyFile = keyFile
    }
  }

  /// What makes the host trusted.
  public var trust: Trust
  /// Our own certificate, where something in front of PVE asks for one.
  public var clientCertificate: ClientCertificate?

  /// A policy; the default verifies with the machine's authorities.
  public init(trust: Trust = .systemCAs, clientCertificate: ClientCertificate? = nil) {
    self.trust = trust
    self.clientCertificate = clientCertificate
  }

  /// Whether the connection is authenticated at all (everything but `insecure`).
  public var isVerified: Bool { trust != .insecure }
}

/// The SHA-256 of a certificate's DER form, written as PVE writes it: 32 pairs of upper-case hexadecimal digits
/// with colons between (`AA:BB:…`).
public struct Fingerprint: Sendable, Hashable, CustomStringConvertible {
  /// The 32 bytes.
  public let bytes: [UInt8]

  /// From a digest; nil unless it is 32 bytes.
  public init?(bytes: [UInt8]) {
    guard bytes.count == 32 else { return nil }
    self.bytes = bytes
  }

  /// From text: `AA:BB:…` in either case, or 64 hexadecimal digits without colons. Nil for anything else.
  public init?(_ text: String) {
    let compact = text.utf8.filter { $0 != UInt8(ascii: ":") }
    guard compact.count == 64, text.utf8.count == 64 || text.utf8.count == 95 else { return nil }
    var out: [UInt8] = []
    var high: UInt8?
    for c in compact {
      let digit: UInt8
      switch c {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = c - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = c - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = c - UInt8(ascii: "A") + 10
      default: return nil
      }
      if let h = high {
        out.append(h << 4 | digit)
        high = nil
      } else {
        high = digit
      }
    }
    bytes = out
  }

  /// PVE's form.
  public var description: String {
    let digits = Array("0123456789ABCDEF")
    return bytes.map { String([digits[Int($0 >> 4)], digits[Int($0 & 15)]]) }.joined(separator: ":")
  }
}
