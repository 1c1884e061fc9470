import ConsoleProtocol
import EventLoop
import Testing

@testable import Gateway

@Suite("Who may become a viewer", .serialized)
struct UpgradeTests {
  private func status(_ attempt: RawViewer.Attempt) -> Int {
    switch attempt {
    case .open: 101
    case .refused(let answer): answer.status
    }
  }

  @Test(
    "the Origin has to be exactly ours or one of those allowed",
    arguments: [
      (nil, 101), ("http://127.0.0.1:{}", 101), ("http://localhost:{}", 403),
      ("https://portal.example.com", 101), ("https://portal.example.com:443", 101),
      ("https://PORTAL.example.com", 101), ("https://portal.example.com.evil.example", 403),
      ("https://evil.example", 403), ("http://portal.example.com", 403), ("null", 403),
      ("https://portal.example.com:8443", 403), ("http://127.0.0.1", 403),
      ("https://127.0.0.1:{}", 403),
    ] as [(String?, Int)])
  func origin(origin: String?, expected: Int) async throws {
    try await TestBed.with({ configuration, _ in
      configuration.allowedOrigins = ["https://portal.example.com"]
    }) { bed in
      let text = origin?.replacing("{}", with: String(bed.port))
      let attempt = try await RawViewer.attempt(bed.port, origin: text)
      #expect(status(attempt) == expected)
    }
  }

  @Test("a name that somebody else owns is not our origin, even if it leads here")
  func rebinding() async throws {
    try await TestBed.with { bed in
      let attempt = try await RawViewer.attempt(
        bed.port, origin: "http://evil.example:\(bed.port)",
        headers: ["Host": "evil.example:\(bed.port)"])
      #expect(status(attempt) == 403)
    }
  }

  @Test("X-Forwarded-Host makes an origin only behind a trusted proxy")
  func forwarded() async throws {
    let headers = ["X-Forwarded-Host": "console.example.com", "X-Forwarded-Proto": "https"]
    try await TestBed.with { bed in
      let attempt = try await RawViewer.attempt(
        bed.port, origin: "https://console.example.com", headers: headers)
      #expect(status(attempt) == 403)
    }
    try await TestBed.with({ configuration, _ in configuration.behindProxy = true }) { bed in
      let attempt = try await RawViewer.attempt(
        bed.port, origin: "https://console.example.com", headers: headers)
      #expect(status(attempt) == 101)
    }
  }

  @Test("the public URL's origin is ours")
  func publicURL() async throws {
    try await TestBed.with({ configuration, _ in
      configuration.publicURL = PublicURL("https://console.example.com/pve")
    }) { bed in
      let good = try await RawViewer.attempt(bed.port, origin: "https://console.example.com")
      #expect(status(good) == 101)
      let bad = try await RawViewer.attempt(bed.port, origin: "https://console.example.com.evil")
      #expect(status(bad) == 403)
    }
  }

  @Test("the subprotocol has to be offered")
  func subprotocol() async throws {
    try await TestBed.with { bed in
      for offer in ["binary", "sallyport.v2", nil] as [String?] {
        let attempt = try await RawViewer.attempt(bed.port, subprotocol: offer)
        #expect(status(attempt) == 400, "\(offer ?? "none")")
      }
      let list = try await RawViewer.attempt(bed.port, subprotocol: "chat, sallyport.v1")
      #expect(status(list) == 101)
    }
  }

  @Test("other addresses are no websockets, and other versions are refused")
  func elsewhere() async throws {
    try await TestBed.with { bed in
      for path in ["/", "/v1/consoles", "/v1/viewer/x", "/vncwebsocket"] {
        let attempt = try await RawViewer.attempt(bed.port, path: path)
        #expect(status(attempt) == 404, "\(path)")
      }
      let old = try await RawViewer.attempt(bed.port, version: "8")
      #expect(status(old) == 426)
      let plain = try await http(bed.port, "GET", "/v1/viewer")
      #expect(plain.status == 426)
      #expect(plain.headers["upgrade"] == "websocket")
    }
  }

  @Test("viewers are counted, shown links or not, and leave room when they go")
  func cap() async throws {
    try await TestBed.with({ configuration, _ in configuration.limits.maximumSessions = 2 }) {
      bed in
      var first: RawViewer.Attempt? = try await RawViewer.attempt(bed.port)
      let second = try await RawViewer.attempt(bed.port)
      #expect(first.map(status) == 101)
      #expect(status(second) == 101)
      let third = try await RawViewer.attempt(bed.port)
      #expect(status(third) == 503)
      first = nil
      var last = 503
      for _ in 0..<100 where last == 503 {
        try await Task.sleep(for: .milliseconds(30))
        last = status(try await RawViewer.attempt(bed.port))
      }
      #expect(last == 101)
      withExtendedLifetime(second) {}
    }
  }
}
