import CSallyport

/// Reads an upload's multipart form piece by piece, as pveproxy does.
///
/// It is no general reader: it looks for the fields `content`, `checksum-algorithm` and `checksum`, in this order and
/// before the file, whose field is called `filename`. From the file's first byte on it looks for the closing
/// delimiter and nothing else, so what follows the file in other parts would become part of the file.
struct MultipartReader {
  /// Why an upload fails, in pveproxy's words; the status is 501 or what the era has instead.
  struct Refusal: Error {
    let message: String
  }

  /// A field of the form.
  typealias Field = (name: String, value: String)

  private enum Phase {
    case preamble, fields, file, finished
  }

  private static let fieldNames = ["content", "checksum-algorithm", "checksum"]

  /// The fields before the file, and `filename` once the file has begun.
  private(set) var fields: [Field] = []
  private let delimiter: [UInt8]
  private let limit: Int
  private var phase = Phase.preamble
  private var pending: [UInt8] = []

  /// - Parameters:
  ///   - boundary: as the `Content-Type` has it.
  ///   - limit: of what may come before the file; pveproxy's read buffer. More and the connection is cut.
  init(boundary: String, limit: Int) {
    delimiter = Array("--\(boundary)".utf8)
    self.limit = limit
  }

  /// Whether the closing delimiter was read: the rest doesn't count.
  var isFinished: Bool { phase == .finished }

  /// Whether more came before the file than pveproxy's buffer holds.
  var isOverfull: Bool { (phase == .preamble || phase == .fields) && pending.count > limit }

  /// Takes bytes in.
  /// - Parameters:
  ///   - begin: gets all fields before the file's first byte comes.
  ///   - file: gets the file's bytes.
  mutating func feed(
    _ bytes: UnsafeRawBufferPointer, begin: ([Field]) -> Void,
    file: (UnsafeRawBufferPointer) -> Void
  ) throws(Refusal) {
    guard phase != .finished else { return }
    pending.append(contentsOf: bytes)
    if phase == .preamble, let start = delimiterLine(from: 0) {
      pending.removeFirst(start.lowerBound)
      phase = .fields
    }
    if phase == .fields {
      for name in MultipartReader.fieldNames { try takeField(name) }
      if try takeFileHeader() {
        phase = .file
        begin(fields)
      }
    }
    if phase == .file { takeFile(file) }
  }

  // MARK: the fields

  private mutating func takeField(_ name: String) throws(Refusal) {
    guard let first = delimiterLine(from: 0), first.lowerBound == 0,
      let disposition = find("Content-Disposition: ", from: first.upperBound),
      let tail = find("; name=\"\(name)\"", from: disposition.upperBound),
      let next = delimiterLine(from: tail.upperBound)
    else { return }
    try MultipartReader.check(disposition: pending[disposition.upperBound..<tail.lowerBound])
    // Headers end with an empty line.
    guard let blank = blankLine(from: tail.upperBound), blank.upperBound <= next.lowerBound else {
      throw Refusal(message: "upload failed")
    }
    let value = trimmedText(pending[blank.upperBound..<next.lowerBound])
    fields.append((name, value))
    pending.removeFirst(next.lowerBound)
  }

  /// Whether the file's part begins; its headers are taken off.
  private mutating func takeFileHeader() throws(Refusal) -> Bool {
    guard let first = delimiterLine(from: 0), first.lowerBound == 0,
      let disposition = find("Content-Disposition: ", from: first.upperBound),
      disposition.lowerBound == first.upperBound,
      let name = find("; name=\"", from: disposition.upperBound)
    else { return false }
    var from = name.upperBound
    while let file = find("\"; filename=\"", from: from) {
      from = file.upperBound
      guard let quote = pending[file.upperBound...].firstIndex(of: UInt8(ascii: "\"")),
        quote > file.upperBound, let lineEnd = newline(at: quote + 1)
      else { continue }
      // The headers have to be complete.
      let data: Int
      if let empty = newline(at: lineEnd) {
        data = empty
      } else if let blank = blankLine(from: lineEnd) {
        data = blank.upperBound
      } else {
        return false
      }
      try MultipartReader.check(disposition: pending[disposition.upperBound..<name.lowerBound])
      let field = String(decoding: pending[name.upperBound..<file.lowerBound], as: UTF8.self)
      guard field == "filename" else {
        throw Refusal(
          message:
            "wrong field name '\(field)' for file upload, expected 'filename' at \(perlPlace(1172)).\n"
        )
      }
      fields.append(("filename", trimmedText(pending[file.upperBound..<quote])))
      pending.removeFirst(data)
      return true
    }
    return false
  }

  private static func check(disposition: ArraySlice<UInt8>) throws(Refusal) {
    let text = String(decoding: disposition, as: UTF8.self)
    guard text == "form-data" else {
      throw Refusal(
        message: "wrong Content-Disposition '\(text)' in multipart, expected 'form-data'\n")
    }
  }

  // MARK: the file

  private mutating func takeFile(_ file: (UnsafeRawBufferPointer) -> Void) {
    let closing = delimiter + Array("--".utf8)
    if let end = find(closing, from: 0) {
      var length = end.lowerBound
      if length > 0, pending[length - 1] == 10 {
        length -= 1
        if length > 0, pending[length - 1] == 13 { length -= 1 }
      }
      pending.withUnsafeBytes { file(UnsafeRawBufferPointer(rebasing: $0[..<length])) }
      pending = []
      phase = .finished
      return
    }
    // The delimiter and the line end before it may be cut anywhere.
    let safe = pending.count - closing.count - 2
    guard safe > 0 else { return }
    pending.withUnsafeBytes { file(UnsafeRawBufferPointer(rebasing: $0[..<safe])) }
    pending.removeFirst(safe)
  }

  // MARK: searching

  private func find(_ text: String, from: Int) -> Range<Int>? { find(Array(text.utf8), from: from) }

  private func find(_ wanted: [UInt8], from: Int) -> Range<Int>? {
    guard from <= pending.count else { return nil }
    return pending.withUnsafeBytes { all in
      wanted.withUnsafeBytes { part in
        guard let base = all.baseAddress, let needle = part.baseAddress,
          let found = sp_find(base + from, all.count - from, needle, part.count)
        else { return nil }
        let at = found - base
        return at..<at + part.count
      }
    }
  }

  /// The next delimiter with its line end.
  private func delimiterLine(from: Int) -> Range<Int>? {
    var from = from
    while let found = find(delimiter, from: from) {
      if let end = newline(at: found.upperBound) { return found.lowerBound..<end }
      from = found.lowerBound + 1
    }
    return nil
  }

  /// The place after a line end.
  private func newline(at place: Int) -> Int? {
    guard place < pending.count else { return nil }
    if pending[place] == 10 { return place + 1 }
    guard pending[place] == 13, place + 1 < pending.count, pending[place + 1] == 10 else {
      return nil
    }
    return place + 2
  }

  /// The next two line ends in a row.
  private func blankLine(from: Int) -> Range<Int>? {
    var at = from
    while let found = pending[min(at, pending.count)...].firstIndex(of: 10) {
      if let end = newline(at: found + 1) { return found..<end }
      at = found + 1
    }
    return nil
  }

  private func trimmedText(_ bytes: ArraySlice<UInt8>) -> String {
    func isSpace(_ c: UInt8) -> Bool { c == 32 || (9...13).contains(c) }
    let begun = bytes.drop(while: isSpace)
    return String(
      decoding: begun.prefix(
        (begun.lastIndex { !isSpace($0) } ?? begun.startIndex - 1)
          - begun.startIndex + 1), as: UTF8.self)
  }
}

/// Where Perl says that it died in pveproxy's server.
func perlPlace(_ line: Int) -> String { "/usr/share/perl5/PVE/APIServer/AnyEvent.pm line \(line)" }
