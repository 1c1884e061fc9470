import Testing

@testable import PVESimulator

@Suite("What an era is")
struct EraTests {
  @Test("names; an unknown one is refused with all of them")
  func names() throws {
    #expect(Era.allCases.map(\.rawValue) == ["7.4", "8.4", "8.4-2026", "9.0", "9.1", "9.2"])
    for era in Era.allCases { #expect(try Era(argument: era.rawValue) == era) }
    do {
      _ = try Era(argument: "8.3")
      Issue.record("8.3 was taken")
    } catch {
      let text = error.description
      #expect(text.contains("'8.3'"))
      #expect(text.contains("7.4, 8.4, 8.4-2026, 9.0, 9.1, 9.2"))
    }
  }

  @Test("facts follow from the packages' versions")
  func facts() {
    let hardened = Era.allCases.filter(\.isHardened)
    #expect(hardened == [.v8_4_2026, .v9_2])
    #expect(Era.allCases.filter(\.hasConsoleTicketCheck) == [.v8_4_2026, .v9_1, .v9_2])
    #expect(Era.allCases.filter(\.tokensOpenNodeTerminals) == [.v9_1, .v9_2])
    #expect(Era.allCases.filter(\.tokensOpenGuestTerminals) == hardened)
    #expect(Era.allCases.filter { $0.maximumBody == 65_536 } == [.v7_4])
    #expect(Era.allCases.filter { !$0.errorBodiesHaveMessages } == [.v7_4])
    #expect(Era.allCases.filter { $0.terminalEnding == .clean } == [.v7_4, .v8_4, .v8_4_2026])
    #expect(Era.allCases.filter { $0.hasPrivilege("VM.Monitor") } == [.v7_4, .v8_4, .v8_4_2026])
    #expect(
      Era.allCases.filter { $0.hasPrivilege("VM.GuestAgent.Audit") } == [.v9_0, .v9_1, .v9_2])
    #expect(Era.allCases.filter { !$0.hasPrivilege("Mapping.Use") } == [.v7_4])
    for era in Era.allCases {
      #expect(era.version.hasPrefix(era.release))
      #expect(era.repositoryID.allSatisfy { "0123456789abcdef".contains($0) })
    }
  }

  @Test("of three mixed endings one loses its tail, the same one for the same seed")
  func endings() {
    func sequence(_ seed: UInt64) -> [TerminalEnding] {
      var hall = ConsoleHall()
      return (0..<30).map { _ in hall.nextEnding(.mixed, seed: seed) }
    }
    let first = sequence(7)
    #expect(first == sequence(7))
    #expect(first != sequence(8))
    for start in stride(from: 0, to: 30, by: 3) {
      #expect(first[start..<start + 3].count { $0 == .losesTail } == 1)
    }
    #expect(!first.contains(.mixed))
    var hall = ConsoleHall()
    #expect(hall.nextEnding(.clean, seed: 0) == .clean)
  }

  @Test("workers take connections by turns, die one by one, and retire together")
  func workers() {
    let proxies = ProxyWorkers()
    let old = (0..<3).compactMap { _ in proxies.take() }
    #expect((0..<4).compactMap { _ in proxies.take()?.index } == [0, 1, 2, 0])
    proxies.replace(old[1])
    let now = (0..<3).map { proxies.worker(at: $0) }
    #expect(now[0] === old[0] && now[1] !== old[1] && now[2] === old[2])
    // One that was replaced already dies without taking another with it.
    proxies.replace(old[1])
    #expect(proxies.worker(at: 1) === now[1])
    proxies.retireAll()
    #expect(old[0].isRetired && !old[1].isRetired)
    #expect(proxies.worker(at: 0)?.isRetired == false)
    #expect(proxies.worker(at: 3) == nil)
  }

  @Test("the old receive buffer holds 64 KiB of an incomplete frame")
  func buffer() {
    func events(_ size: Int, buffer: Int?) -> (payload: Int, overflows: Int) {
      var reader = FrameReader(buffer: buffer)
      var seen = (payload: 0, overflows: 0)
      let frame = clientFrame([UInt8](repeating: 7, count: size))
      for start in stride(from: 0, to: frame.count, by: 5000) {
        var piece = Array(frame[start..<min(start + 5000, frame.count)])
        piece.withUnsafeMutableBytes {
          reader.feed($0) { event in
            switch event {
            case .payload(let bytes): seen.payload += bytes.count
            case .overflow: seen.overflows += 1
            default: break
            }
          }
        }
      }
      return seen
    }
    #expect(events(60_000, buffer: 65_536) == (60_000, 0))
    #expect(events(100_000, buffer: 65_536) == (0, 1))
    #expect(events(131_072, buffer: nil) == (131_072, 0))
  }
}
