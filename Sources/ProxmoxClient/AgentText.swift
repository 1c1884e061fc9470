/// Guest bytes as the agent's API carries them: PVE decodes the agent's base64 and puts each byte into its JSON as the
/// character of the same number (pve-protocol §5.2), so output looks encoded twice. Input is the mirror.
package enum AgentText {
  /// The bytes behind a text of PVE's; nil where it holds a character that stands for no byte.
  package static func bytes(_ text: String) -> [UInt8]? {
    var text = text
    return text.withUTF8 { utf8 in
      var isFine = true
      let out = [UInt8](unsafeUninitializedCapacity: utf8.count) { out, count in
        var i = 0
        var n = 0
        while i < utf8.count {
          let c = utf8[i]
          if c < 0x80 {
            out[n] = c
            i += 1
          } else if c == 0xC2 || c == 0xC3, i + 1 < utf8.count {
            // U+0080 to U+00FF; a String's UTF-8 is valid, so the second byte is one.
            out[n] = c << 6 | utf8[i + 1] & 0x3F
            i += 2
          } else {
            isFine = false
            break
          }
          n += 1
        }
        count = n
      }
      return isFine ? out : nil
    }
  }

  /// The text that PVE makes these bytes of.
  package static func text(_ bytes: [UInt8]) -> String {
    if bytes.allSatisfy({ $0 < 0x80 }) { return String(decoding: bytes, as: UTF8.self) }
    var utf8: [UInt8] = []
    utf8.reserveCapacity(bytes.count * 2)
    for byte in bytes {
      if byte < 0x80 {
        utf8.append(byte)
      } else {
        utf8.append(0xC0 | byte >> 6)
        utf8.append(0x80 | byte & 0x3F)
      }
    }
    return String(decoding: utf8, as: UTF8.self)
  }

  /// Base64 with its padding, for `file-write` with `encode=0`.
  package static func base64(_ bytes: [UInt8]) -> String {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    let count = (bytes.count + 2) / 3 * 4
    return String(unsafeUninitializedCapacity: count) { out in
      bytes.withUnsafeBufferPointer { bytes in
        digits.withUnsafeBufferPointer { digits in
          var n = 0
          var i = 0
          while i < bytes.count {
            let a = Int(bytes[i])
            let b = i + 1 < bytes.count ? Int(bytes[i + 1]) : 0
            let c = i + 2 < bytes.count ? Int(bytes[i + 2]) : 0
            out[n] = digits[a >> 2]
            out[n + 1] = digits[(a & 3) << 4 | b >> 4]
            out[n + 2] = i + 1 < bytes.count ? digits[(b & 15) << 2 | c >> 6] : 61
            out[n + 3] = i + 2 < bytes.count ? digits[c & 63] : 61
            i += 3
            n += 4
          }
        }
      }
      return count
    }
  }
}
