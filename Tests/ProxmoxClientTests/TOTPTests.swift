import ConsoleProtocol
import Synchronization
import Testing

@testable import ProxmoxClient

@Suite("Time-based codes")
struct TOTPTests {
  @Test(
    "the vectors of RFC 6238, appendix B",
    arguments: [
      (59, "94287082"), (1_111_111_109, "07081804"), (1_111_111_111, "14050471"),
      (1_234_567_890, "89005924"), (2_000_000_000, "69279037"), (20_000_000_000, "65353130"),
    ] as [(UInt64, String)])
  func vectors(_ time: UInt64, _ code: String) {
    let key = Array("12345678901234567890".utf8)
    #expect(TOTP.code(key: key, counter: time / 30, digits: 8) == code)
    #expect(TOTP.code(key: key, counter: time / 30) == String(code.suffix(6)))
  }

  @Test(
    "the vectors of RFC 4648 for base32",
    arguments: [
      ("MY======", "f"), ("MZXQ====", "fo"), ("MZXW6===", "foo"), ("mzxw6yq", "foob"),
      ("MZXW 6YTB", "fooba"), ("MZXW-6YTB-OI", "foobar"),
    ])
  func base32(_ text: String, _ plain: String) {
    #expect(TOTP.base32(text) == Array(plain.utf8))
  }

  @Test("what is no base32 is refused", arguments: ["", "1", "MZ8=", "ä", "====", "M"])
  func noBase32(_ text: String) { #expect(TOTP.base32(text) == nil) }

  @Test("no code is used twice, and the next step's comes early")
  func once() async throws {
    let generator = TOTPGenerator(
      secret: Secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"), clock: WallClock { 1_111_111_109 })
    #expect(try await generator.next() == "081804")
    #expect(try await generator.next() == "050471")
  }

  @Test("a third code in one step has to wait, and the wait can be cancelled")
  func waits() async throws {
    let time = Mutex(1_111_111_080)
    let factor = SecondFactor.totp(
      secret: Secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"), clock: WallClock { time.withLock { $0 } })
    let challenge = TFAChallenge(totp: true)
    _ = try await factor.code(challenge)
    _ = try await factor.code(challenge)
    let third = Task { try await factor.code(challenge).reveal() }
    third.cancel()
    await #expect(throws: CancellationError.self) { try await third.value }
    time.withLock { $0 += 30 }
    #expect(try await factor.code(challenge).reveal().hasPrefix("totp:"))
  }

  @Test("an account without TOTP, or a secret that is none, is an error in words")
  func wrong() async {
    let factor = SecondFactor.totp(secret: Secret("MZXW6YTB"))
    await #expect(throws: SecondFactorMissing.self) {
      try await factor.code(TFAChallenge(recovery: [1, 2]))
    }
    await #expect(throws: TOTPGenerator.BadSecret.self) {
      try await SecondFactor.totp(secret: Secret("not base32!")).code(TFAChallenge(totp: true))
    }
  }
}
