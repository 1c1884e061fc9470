import COpenSSL
import ConsoleProtocol
import Synchronization

/// The few digests and ciphers that the wire protocols ask for, by OpenSSL.
package enum RelayCrypto {
  /// A fresh `Sec-WebSocket-Key` and the answer that proves that the server understood it (RFC 6455 §4.2.2).
  package static func webSocketKey() -> (key: String, accept: String) {
    let key = base64(random(16))
    return (key, accept(for: key))
  }

  /// What a server answers to a key.
  package static func accept(for key: String) -> String {
    let guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    var digest = [UInt8](repeating: 0, count: 20)
    let text = Array((key + guid).utf8)
    _ = SHA1(text, text.count, &digest)
    return base64(digest)
  }

  /// Bytes from the system's random generator.
  package static func random(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let done = RAND_bytes(&bytes, Int32(count))
    // RAND_bytes fails only where the kernel has no randomness at all; nothing secret may be made up then.
    precondition(done == 1, "the system's random generator failed")
    return bytes
  }

  /// A mask for one websocket frame. The generator is asked for a thousand at a time: every call of it costs a system
  /// call, and there are thousands of frames a second.
  @Sendable package static func mask() -> UInt32 {
    pool.withLock { pool in
      if pool.isEmpty {
        let bytes = random(4096)
        pool = bytes.withUnsafeBytes { raw in
          (0..<1024).map { raw.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self) }
        }
      }
      return pool.popLast() ?? 0
    }
  }

  private static let pool = Mutex<[UInt32]>([])

  /// The answer to an RFB challenge: single DES in ECB, which OpenSSL 3 still has as three-key DES with one key three
  /// times.
  package static func vncResponse(password: Secret, challenge: [UInt8]) -> [UInt8]? {
    let one = RFBLogin.vncKey(password: Array(password.reveal().utf8))
    let key = one + one + one
    guard challenge.count == 16, key.count == 24, let context = EVP_CIPHER_CTX_new() else {
      return nil
    }
    defer { EVP_CIPHER_CTX_free(context) }
    var out = [UInt8](repeating: 0, count: 32)
    var length: Int32 = 0
    guard EVP_EncryptInit_ex(context, EVP_des_ede3_ecb(), nil, key, nil) == 1,
      EVP_CIPHER_CTX_set_padding(context, 0) == 1,
      EVP_EncryptUpdate(context, &out, &length, challenge, 16) == 1, length == 16
    else { return nil }
    return Array(out.prefix(16))
  }

  private static func base64(_ bytes: [UInt8]) -> String {
    var out = [UInt8](repeating: 0, count: (bytes.count + 2) / 3 * 4 + 1)
    let n = EVP_EncodeBlock(&out, bytes, Int32(bytes.count))
    return String(decoding: out.prefix(Int(n)), as: UTF8.self)
  }
}
