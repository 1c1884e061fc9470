/// A digit's character, upper case as PVE writes times and fingerprints.
func hexDigit(_ value: UInt8) -> UInt8 {
  value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10
}

/// A hexadecimal character's value.
func hexValue(_ c: UInt8) -> UInt8? {
  switch c {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): c - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): c - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): c - UInt8(ascii: "A") + 10
  default: nil
  }
}

/// Upper-case hexadecimal, padded with zeroes.
func hex(_ value: Int, digits: Int) -> String {
  let text = String(value, radix: 16, uppercase: true)
  return String(repeating: "0", count: max(0, digits - text.count)) + text
}

/// Bytes as lower-case hexadecimal.
func lowerHex(_ bytes: [UInt8]) -> String {
  var out: [UInt8] = []
  for b in bytes {
    out.append(hexDigit(b >> 4) | (b >> 4 > 9 ? 0x20 : 0))
    out.append(hexDigit(b & 15) | (b & 15 > 9 ? 0x20 : 0))
  }
  return String(decoding: out, as: UTF8.self)
}

/// Percent-decoding as PVE does it: a `%` without two digits stays as it is, broken UTF-8 is replaced.
func percentDecoded(_ text: some Collection<UInt8>, plusIsSpace: Bool) -> String {
  String(decoding: percentDecodedBytes(text, plusIsSpace: plusIsSpace), as: UTF8.self)
}

/// Percent-decoding where PVE doesn't know of UTF-8 (paths, the names of parameters): every byte is a character.
func latin1Decoded(_ text: some Collection<UInt8>, plusIsSpace: Bool = false) -> String {
  let bytes = percentDecodedBytes(text, plusIsSpace: plusIsSpace)
  guard bytes.contains(where: { $0 > 127 }) else { return String(decoding: bytes, as: UTF8.self) }
  var out = String.UnicodeScalarView()
  for byte in bytes { out.append(Unicode.Scalar(byte)) }
  return String(out)
}

private func percentDecodedBytes(_ text: some Collection<UInt8>, plusIsSpace: Bool) -> [UInt8] {
  let bytes = Array(text)
  guard bytes.contains(where: { $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "+") }) else {
    return bytes
  }
  var out: [UInt8] = []
  out.reserveCapacity(bytes.count)
  var i = 0
  while i < bytes.count {
    let c = bytes[i]
    if c == UInt8(ascii: "%"), i + 2 < bytes.count, let high = hexValue(bytes[i + 1]),
      let low = hexValue(bytes[i + 2])
    {
      out.append(high << 4 | low)
      i += 3
      continue
    }
    out.append(plusIsSpace && c == UInt8(ascii: "+") ? 32 : c)
    i += 1
  }
  return out
}

/// Percent-encoding of everything but letters, digits and `-._~`.
func percentEncoded(_ text: String) -> String {
  var out: [UInt8] = []
  for c in text.utf8 {
    switch c {
    case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "-"), UInt8(ascii: "."),
      UInt8(ascii: "_"), UInt8(ascii: "~"):
      out.append(c)
    default: out += [UInt8(ascii: "%"), hexDigit(c >> 4), hexDigit(c & 15)]
    }
  }
  return String(decoding: out, as: UTF8.self)
}

/// Without spaces and tabs at both ends.
func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
  var slice = bytes
  while let c = slice.first, c == 32 || c == 9 || c == 13 { slice.removeFirst() }
  while let c = slice.last, c == 32 || c == 9 || c == 13 { slice.removeLast() }
  return slice
}
