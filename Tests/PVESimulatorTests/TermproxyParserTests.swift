import Testing

@testable import PVESimulator

@Suite("termproxy's reader, with what it loses")
struct TermproxyParserTests {
  private struct Seen: Equatable {
    var input: [UInt8] = []
    var sizes: [[Int]] = []
  }

  private func read(_ reads: [String]) -> Seen { read(reads.map { Array($0.utf8) }) }

  private func read(_ reads: [[UInt8]]) -> Seen {
    var parser = TermproxyParser()
    var seen = Seen()
    for bytes in reads {
      bytes.withUnsafeBytes {
        parser.feed($0) { event in
          switch event {
          case .input(let data): seen.input += data
          case .resize(let columns, let rows): seen.sizes.append([columns, rows])
          }
        }
      }
    }
    return seen
  }

  private func text(_ reads: [String]) -> String {
    String(decoding: read(reads).input, as: UTF8.self)
  }

  @Test("lengths are bytes; sizes are columns first")
  func messages() {
    #expect(read(["0:3:é!1:100:30:20:1:x"]) == Seen(input: Array("é!x".utf8), sizes: [[100, 30]]))
    #expect(text(["0:0:0:2:ok"]) == "ok")
  }

  @Test("data may be cut anywhere")
  func dataCuts() {
    #expect(text(["0:5:h", "el", "lo0:1:!"]) == "hello!")
  }

  @Test("a message whose header is cut is gone, except right after its first byte")
  func headerCuts() {
    #expect(text(["0:1", "2:hello world!", "0:2:ok"]) == "ok")
    #expect(text(["0:", "5:hello", "0:2:ok"]) == "ok")
    #expect(text(["0", ":5:hello", "0:2:ok"]) == "hellook")
    #expect(read(["1:80:", "24:"]).sizes == [])
  }

  @Test("too small a length leaves bytes that are read as commands")
  func shortLength() {
    #expect(text(["0:2:abcd0:1:e"]) == "abe")
  }

  @Test("garbage is skipped byte by byte; a keep-alive waits for the next byte")
  func garbage() {
    #expect(text(["xyz22", "2", "0:1:a"]) == "a")
    #expect(text(["0:-5:abc0:1:a"]) == "a")
    #expect(text(["0:99999999999999999999:abc", "0:1:a"]) == "a")
  }

  @Test("a burst of small messages loses those at the buffer's edge: 7996 of 8000 bytes arrive")
  func burst() {
    let one = Array("0:2:xy".utf8)
    let all = (0..<4000).flatMap { _ in one }
    #expect(read([all]).input.count == 7996)
    let fewer = (0..<3000).flatMap { _ in one }
    #expect(read([fewer]).input.count == 5998)
    #expect(read((0..<4000).map { _ in one }).input.count == 8000)
  }

  @Test("a megabyte in one message arrives whole")
  func large() {
    let data = (0..<1_048_576).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    #expect(read([Array("0:1048576:".utf8) + data]).input == data)
  }

  @Test("the pattern of sources is the same byte by byte and in one go")
  func pattern() {
    for start in [0, 1, 255, 65_530, 16_777_200] {
      let all = SimulatedTerminal.pattern(from: start, count: 1000)
      #expect(all == (0..<1000).map { SimulatedTerminal.patternByte(at: start + $0) })
    }
  }
}
