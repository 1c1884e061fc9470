import Testing

@testable import PVESimulator

@Suite("Uploads' forms are read as pveproxy reads them")
struct HTTPMultipartTests {
  private static func part(_ name: String, _ value: String) -> String {
    "--B\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n"
  }

  private static func file(
    _ content: String, type: String = "Content-Type: application/octet-stream\r\n"
  ) -> String {
    "--B\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"a.iso\"\r\n\(type)\r\n\(content)"
  }

  private enum Outcome: Equatable {
    case complete(UploadedFile, [String])
    case refused(String)
    case overfull
    case unfinished
  }

  /// Feeds a body in pieces of a size.
  private func read(_ body: String, pieces: Int, length: Int? = nil, limit: Int = 4096) -> Outcome {
    let bytes = Array(body.utf8)
    let reader = UploadReader(
      boundary: "B", length: length ?? bytes.count, limit: limit,
      query: Parameters(form: "a=query".utf8))
    var at = 0
    while at < bytes.count {
      let piece = Array(bytes[at..<min(at + pieces, bytes.count)])
      at += piece.count
      switch piece.withUnsafeBytes({ reader.feed($0) }) {
      case .needsMore: continue
      case .complete(var file, let parameters):
        file.temporaryName = ""
        return .complete(
          file, parameters.pairs.map { "\($0.name)=\($0.value.text ?? "?")" })
      case .refused(let message): return .refused(message)
      case .overfull: return .overfull
      }
    }
    return .unfinished
  }

  @Test("an upload is read the same however it is cut")
  func pieces() {
    let body =
      "junk\r\n" + Self.part("content", " iso ") + Self.part("checksum-algorithm", "sha256")
      + Self.part("checksum", "abc") + Self.file("one\r\n--B two\r\n\r\n--B-\r\n") + "\r\n--B--\r\n"
    let data = "one\r\n--B two\r\n\r\n--B-\r\n"
    let expected = Outcome.complete(
      UploadedFile(
        name: "a.iso", size: data.utf8.count, checksum: lowerHex(sha256(Array(data.utf8))),
        temporaryName: ""),
      ["a=query", "content=iso", "checksum-algorithm=sha256", "checksum=abc", "filename=a.iso"])
    for size in 1...body.utf8.count {
      #expect(read(body, pieces: size) == expected, "in pieces of \(size)")
    }
  }

  @Test("a file may be empty, and a part may have no type")
  func empty() {
    let body = Self.part("content", "iso") + Self.file("", type: "") + "\r\n--B--"
    guard case .complete(let file, _) = read(body, pieces: 1000) else {
      Issue.record("not read")
      return
    }
    #expect(file.size == 0)
    #expect(file.checksum == nil)
  }

  @Test("what is behind the file belongs to it, up to the closing delimiter")
  func trailing() {
    let body = Self.part("content", "iso") + Self.file("x\r\n") + Self.part("late", "y") + "--B--"
    guard case .complete(let file, let parameters) = read(body, pieces: 7) else {
      Issue.record("not read")
      return
    }
    #expect(file.size == 3 + Self.part("late", "y").utf8.count - 2)
    #expect(!parameters.contains { $0.hasPrefix("late") })
  }

  @Test(
    "bad forms are refused, however they are cut",
    arguments: [
      // No delimiter at all; another one; no file; cut off in the file.
      ("nothing", "upload failed"),
      ("--C\r\n\r\n", "upload failed"),
      (part("content", "iso") + "--B--\r\n", "upload failed"),
      (part("content", "iso") + file("cut off"), "upload failed"),
      // A field that isn't known is taken for a file's.
      (part("other", "x") + file("y") + "\r\n--B--\r\n", "wrong field name 'other"),
      (
        "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx\r\n--B--",
        "wrong field name 'file' for file upload, expected 'filename'"
      ),
      // Another disposition.
      (
        "--B\r\nContent-Disposition: attachment; name=\"content\"\r\n\r\niso\r\n" + file("y"),
        "wrong Content-Disposition 'attachment' in multipart, expected 'form-data'"
      ),
      // No name; no quotes.
      ("--B\r\nContent-Disposition: form-data; filename=\"a\"\r\n\r\nx\r\n--B--", "upload failed"),
      (
        "--B\r\nContent-Disposition: form-data; name=filename; filename=a\r\n\r\nx\r\n--B--",
        "upload failed"
      ),
    ])
  func refusals(_ body: String, _ message: String) {
    for size in [1, 13, 10_000] {
      guard case .refused(let text) = read(body, pieces: size) else {
        Issue.record("not refused in pieces of \(size): \(body)")
        continue
      }
      // Which of two mistakes is seen first may depend on the cut.
      #expect(
        text.hasPrefix(message) || text.hasPrefix("wrong") && message.hasPrefix("wrong"), "\(text)")
    }
  }

  @Test("fields out of order are seen when they come at once, and not when they trickle in")
  func order() {
    let body =
      Self.part("checksum", "x") + Self.part("content", "iso") + Self.file("y") + "\r\n--B--\r\n"
    guard case .refused(let text) = read(body, pieces: 10_000) else {
      Issue.record("not refused")
      return
    }
    #expect(text.hasPrefix("wrong Content-Disposition 'form-data; name="))
    if case .complete = read(body, pieces: 1) {} else { Issue.record("not read") }
  }

  @Test("what comes before the file has to fit into the read buffer")
  func giantHeaders() {
    let giant = "--B\r\nX: " + String(repeating: "a", count: 5000)
    #expect(read(giant, pieces: 100, length: 100_000) == .overfull)
    #expect(
      read(String(repeating: "a", count: 5000), pieces: 5000, length: 100_000) == .overfull)
  }

  @Test("the body ends where Content-Length says")
  func length() {
    let body = Self.part("content", "iso") + Self.file("abc") + "\r\n--B--\r\n"
    let expected = Outcome.refused("upload failed at \(perlPlace(1203)).\n")
    #expect(read(body, pieces: 50, length: body.utf8.count - 10) == expected)
  }

  @Test("digests by every algorithm that PVE knows")
  func digests() {
    for (algorithm, digest) in [
      ("md5", "900150983cd24fb0d6963f7d28e17f72"),
      ("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
      ("sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
      ("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "sha384",
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
      ),
      (
        "sha512",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
      ),
    ] {
      let body =
        Self.part("content", "iso") + Self.part("checksum-algorithm", algorithm) + Self.file("abc")
        + "\r\n--B--"
      guard case .complete(let file, _) = read(body, pieces: 3) else {
        Issue.record("not read")
        continue
      }
      #expect(file.checksum == digest)
    }
  }
}
