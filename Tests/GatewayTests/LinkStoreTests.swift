import ConsoleProtocol
import Testing

@testable import Gateway

@Suite("Links")
struct LinkStoreTests {
  private func grant(_ id: String = "a") throws -> Grant {
    Grant(id: id, cluster: "home", target: .qemu(try #require(VMID(100))), console: .vnc)
  }

  private func kind(_ result: Result<Grant, Ending>) -> Ending.Kind? {
    if case .failure(let ending) = result { ending.kind } else { nil }
  }

  @Test("a link is good once")
  func once() throws {
    let store = LinkStore(maximum: 10)
    let token = try store.create(try grant(), ttl: .seconds(60))
    #expect(try store.redeem(token).get().id == "a")
    #expect(kind(store.redeem(token)) == .linkUsed)
    #expect(store.waiting == 0)
  }

  @Test("an unknown token, and one with a character changed, are unknown")
  func forged() throws {
    let store = LinkStore(maximum: 10)
    let token = try store.create(try grant(), ttl: .seconds(60))
    var forged = Array(token.reveal())
    forged[5] = forged[5] == "A" ? "B" : "A"
    #expect(kind(store.redeem(Secret(String(forged)))) == .linkUnknown)
    #expect(kind(store.redeem(Secret(""))) == .linkUnknown)
    #expect(kind(store.redeem(token)) == nil)
  }

  @Test("a token is 256 bits of base64url, another every time")
  func random() throws {
    let store = LinkStore(maximum: 1000)
    var seen: Set<String> = []
    for i in 0..<200 {
      let token = try store.create(try grant("\(i)"), ttl: .seconds(60)).reveal()
      #expect(token.count == 43)
      #expect(seen.insert(token).inserted)
    }
  }

  @Test("an expired link is expired, whether or not it was swept, and forgotten after an hour")
  func expired() throws {
    let store = LinkStore(maximum: 10)
    let now = ContinuousClock.now
    let first = try store.create(try grant("first"), ttl: .seconds(10), at: now)
    let second = try store.create(try grant("second"), ttl: .seconds(10), at: now)
    #expect(kind(store.redeem(first, at: now + .seconds(10))) == .linkExpired)
    #expect(store.sweep(at: now + .seconds(11)) == ["first", "second"])
    #expect(store.sweep(at: now + .seconds(11)).isEmpty)
    #expect(kind(store.redeem(second, at: now + .seconds(12))) == .linkExpired)
    _ = store.sweep(at: now + .seconds(4000))
    #expect(kind(store.redeem(second, at: now + .seconds(4000))) == .linkUnknown)
  }

  @Test("only so many links wait; one that was used makes room")
  func bounded() throws {
    let store = LinkStore(maximum: 2)
    let token = try store.create(try grant("a"), ttl: .seconds(60))
    _ = try store.create(try grant("b"), ttl: .seconds(60))
    #expect(throws: LinkStore.Full.self) { try store.create(try grant("c"), ttl: .seconds(60)) }
    _ = store.redeem(token)
    _ = try store.create(try grant("c"), ttl: .seconds(60))
  }

  @Test("a withdrawn link says so")
  func withdrawn() throws {
    let store = LinkStore(maximum: 2)
    let token = try store.create(try grant("a"), ttl: .seconds(60))
    #expect(store.withdraw(id: "a"))
    #expect(!store.withdraw(id: "a"))
    #expect(kind(store.redeem(token)) == .closedByOperator)
  }

  @Test("what is remembered of used links is bounded")
  func memory() throws {
    let store = LinkStore(maximum: 8)
    var tokens: [Secret] = []
    for i in 0..<100 {
      let token = try store.create(try grant("\(i)"), ttl: .seconds(60))
      _ = store.redeem(token)
      tokens.append(token)
    }
    #expect(kind(store.redeem(tokens[0])) == .linkUnknown)
    #expect(kind(store.redeem(tokens[99])) == .linkUsed)
  }
}
