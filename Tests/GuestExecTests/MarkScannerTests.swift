import Testing

@testable import GuestExec

@Suite("Records among somebody's bytes")
struct MarkScannerTests {
  private func joined(_ pieces: [MarkScanner.Piece]) -> ([UInt8], [String]) {
    var bytes: [UInt8] = []
    var records: [String] = []
    for piece in pieces {
      switch piece {
      case .bytes(let more): bytes += more
      case .record(let text): records.append(text)
      }
    }
    return (bytes, records)
  }

  @Test("records are found however the stream is cut")
  func cuts() {
    let whole = Array("abc M1M1: M1M1:X 3;d M1M M1M1:B 1 2 3;M1M1:E;eM1M1".utf8)
    for size in 1...whole.count {
      var scanner = MarkScanner(mark: "M1M1")
      var pieces: [MarkScanner.Piece] = []
      var from = 0
      while from < whole.count {
        pieces += scanner.feed(Array(whole[from..<min(from + size, whole.count)]))
        from += size
      }
      let (bytes, records) = joined(pieces)
      // "M1M1: M1M1:X 3" is one record with a strange text; a mark is random, so nobody writes that.
      #expect(records == [" M1M1:X 3", "B 1 2 3", "E"])
      #expect(String(decoding: bytes + scanner.rest(), as: UTF8.self) == "abc d M1M eM1M1")
    }
  }

  @Test("a mark without an end is somebody's bytes")
  func endless() {
    var scanner = MarkScanner(mark: "MARK")
    let bytes = Array("MARK:".utf8) + [UInt8](repeating: 120, count: 200)
    #expect(joined(scanner.feed(bytes)).0 == bytes)
  }

  @Test("the limit cuts each stream by itself")
  func limiter() {
    var limiter = OutputLimiter(limit: 5)
    #expect(limiter.stdout([1, 2, 3]) == [1, 2, 3])
    #expect(limiter.stderr([1, 2, 3, 4, 5]) == [1, 2, 3, 4, 5])
    #expect(limiter.result(.exited(0)) == ExecResult(.exited(0)))
    #expect(limiter.stdout([4, 5, 6]) == [4, 5])
    #expect(limiter.stdout([7]) == nil)
    #expect(limiter.result(.exited(0)) == ExecResult(.exited(0), stdoutTruncated: true))
    var none = OutputLimiter(limit: nil)
    #expect(none.stdout([1]) == [1])
    // What was kept already counts.
    var later = OutputLimiter(limit: 5, from: ExecPosition(stdout: 4))
    #expect(later.stdout([1, 2]) == [1])
  }
}
