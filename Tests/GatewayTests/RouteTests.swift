import ConsoleProtocol
import EventLoop
import ProxmoxClient
import Testing

@testable import Gateway

@Suite("The API through real sockets", .serialized)
struct RouteTests {
  @Test("health and readiness need no key")
  func health() async throws {
    try await TestBed.with { bed in
      let health = try await http(bed.port, "GET", "/healthz")
      #expect(health.status == 200)
      #expect(health.text == "{\"status\":\"ok\"}")
      let ready = try await http(bed.port, "GET", "/readyz")
      #expect(ready.status == 200)
      #expect(ready.text.contains("\"reachable\":true"))
    }
  }

  @Test("readiness is 503 with the reason when no cluster can be reached")
  func notReady() async throws {
    try await TestBed.with({ configuration, _ in
      configuration.clusters[0].hosts = [APIHost(host: "127.0.0.1", port: 1)]
    }) { bed in
      let ready = try await http(bed.port, "GET", "/readyz")
      #expect(ready.status == 503)
      let json = try JSONParser.parse(ready.body)
      #expect(json["clusters"].array?.first?["reason"].string == "api-unreachable")
      #expect(json["clusters"].array?.first?["remedy"].string?.isEmpty == false)
    }
  }

  @Test(
    "without the right key every call of the API is a 401",
    arguments: [
      nil, "Bearer wrong-key-that-is-long-enough", "Bearer", "Basic YTpi",
      TestBed.key, "Bearer \(TestBed.key)x",
    ] as [String?])
  func unauthorised(header: String?) async throws {
    try await TestBed.with { bed in
      for (method, path) in [
        ("GET", "/v1/inventory"), ("POST", "/v1/consoles"), ("GET", "/v1/consoles"),
        ("GET", "/v1/consoles/x"), ("DELETE", "/v1/consoles/x"),
      ] {
        let headers = header.map { ["Authorization": $0] } ?? [:]
        let answer = try await http(
          bed.port, method, path, headers: headers, body: method == "POST" ? Array("{}".utf8) : nil)
        #expect(answer.status == 401)
        #expect(answer.headers["www-authenticate"]?.hasPrefix("Bearer") == true)
        #expect(answer.headers["content-type"] == "application/problem+json")
      }
    }
  }

  @Test("a link is made, listed and shown, and its token is in the URL's fragment")
  func link() async throws {
    try await TestBed.with { bed in
      let answer = try await bed.call(
        "POST", "/v1/consoles",
        json: "{\"target\":\"web1\",\"ttl\":30,\"readOnly\":true,\"maxDuration\":60,\"idle\":10.5}")
      #expect(answer.status == 201)
      let token = try #require(answer.json["token"].string)
      let id = try #require(answer.json["id"].string)
      #expect(
        answer.json["url"].string == "http://127.0.0.1:\(bed.port)/console.html#t=\(token)")
      #expect(answer.json["target"].string == "qemu/100")
      #expect(answer.json["console"].string == "vnc")
      #expect(answer.headers["location"] == "/v1/consoles/\(id)")
      let shown = try await bed.call("GET", "/v1/consoles/\(id)")
      #expect(shown.json["state"].string == "waiting")
      #expect(shown.json["readOnly"] == .bool(true))
      #expect(shown.json["key"].string == "portal")
      #expect(!shown.json.description.contains(token))
      let all = try await bed.call("GET", "/v1/consoles?state=waiting")
      #expect(all.json["consoles"].array?.count == 1)
      #expect(try await bed.call("GET", "/v1/consoles?state=open").json["consoles"].array == [])
      #expect(!bed.lines.all.contains { $0.contains(token) })
    }
  }

  @Test(
    "the usual console is the screen for a VM, the terminal for the rest",
    arguments: [
      ("qemu/100", "vnc"), ("100", "vnc"), ("lxc/200", "terminal"), ("node/pve1", "terminal"),
      ("home:lxc/200", "terminal"),
    ])
  func usual(target: String, console: String) async throws {
    try await TestBed.with { bed in
      let answer = try await bed.call("POST", "/v1/consoles", json: "{\"target\":\"\(target)\"}")
      #expect(answer.status == 201)
      #expect(answer.json["console"].string == console)
    }
  }

  @Test(
    "what is wrong with a request is said, with the field",
    arguments: [
      ("", 400, "bad-json", nil), ("{", 400, "bad-json", nil), ("[]", 400, "bad-json", nil),
      ("{\"target\":\"qemu/100\"} x", 400, "bad-json", nil),
      ("{}", 400, "missing-field", "target"),
      ("{\"target\":\"qemu/100\",\"tll\":1}", 400, "unknown-field", "tll"),
      ("{\"target\":100}", 400, "wrong-type", "target"),
      ("{\"target\":\"disk/100\"}", 400, "bad-target", "target"),
      ("{\"target\":\"../../etc\"}", 400, "bad-target", "target"),
      ("{\"target\":\"qemu/100\",\"console\":\"spice\"}", 400, "bad-console", "console"),
      ("{\"target\":\"qemu/100\",\"readOnly\":\"yes\"}", 400, "wrong-type", "readOnly"),
      ("{\"target\":\"qemu/100\",\"readOnly\":1}", 400, "wrong-type", "readOnly"),
      ("{\"target\":\"qemu/100\",\"ttl\":\"60\"}", 400, "wrong-type", "ttl"),
      ("{\"target\":\"qemu/100\",\"ttl\":0}", 422, "out-of-range", "ttl"),
      ("{\"target\":\"qemu/100\",\"ttl\":-5}", 422, "out-of-range", "ttl"),
      ("{\"target\":\"qemu/100\",\"ttl\":1e300}", 422, "out-of-range", "ttl"),
      ("{\"target\":\"qemu/100\",\"ttl\":86401}", 422, "out-of-range", "ttl"),
      ("{\"target\":\"qemu/100\",\"cluster\":\"away\"}", 404, "unknown-cluster", "cluster"),
      ("{\"target\":\"a:qemu/100\",\"cluster\":\"b\"}", 400, "conflict", "cluster"),
      ("{\"target\":\"qemu/999\"}", 404, "target-not-found", "target"),
      ("{\"target\":\"lxc/100\"}", 404, "target-not-found", "target"),
      ("{\"target\":\"node/away\"}", 404, "node-not-found", "target"),
      ("{\"target\":\"twin\"}", 409, "ambiguous-target", "target"),
      ("{\"target\":\"lxc/200\",\"console\":\"serial0\"}", 422, "no-such-console", "console"),
    ] as [(String, Int, String, String?)])
  func badRequests(body: String, status: Int, kind: String, field: String?) async throws {
    try await TestBed.with { bed in
      let answer = try await bed.call("POST", "/v1/consoles", json: body)
      #expect(answer.status == status)
      #expect(answer.headers["content-type"] == "application/problem+json")
      #expect(answer.json["type"].string == "about:blank#\(kind)")
      #expect(answer.json["status"] == .int(status))
      #expect(answer.json["field"].string == field)
      #expect(answer.json["detail"].string?.hasSuffix(".") == true || kind == "bad-target")
    }
  }

  @Test("an ambiguous or unknown name lists what could have been meant")
  func candidates() async throws {
    try await TestBed.with { bed in
      let twin = try await bed.call("POST", "/v1/consoles", json: "{\"target\":\"twin\"}")
      #expect(
        twin.json["candidates"].array?.compactMap { $0["target"].string } == [
          "qemu/103", "qemu/104",
        ])
      let other = try await bed.call("POST", "/v1/consoles", json: "{\"target\":\"wbe1\"}")
      #expect(other.json["remedy"].string?.contains("qemu/100 (web1)") == true)
    }
  }

  @Test("the body's type has to be JSON")
  func contentType() async throws {
    try await TestBed.with { bed in
      for type in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let answer = try await bed.call(
          "POST", "/v1/consoles", json: "{\"target\":\"qemu/100\"}", headers: ["Content-Type": type]
        )
        #expect(answer.status == 415)
      }
      let charset = try await bed.call(
        "POST", "/v1/consoles", json: "{\"target\":\"qemu/100\"}",
        headers: ["Content-Type": "Application/JSON; charset=utf-8"])
      #expect(charset.status == 201)
    }
  }

  @Test("a body over 1 MiB is refused, and one of 1 MiB is read")
  func bodySize() async throws {
    try await TestBed.with { bed in
      let padding = String(repeating: " ", count: (1 << 20) - 21)
      let whole = try await bed.call(
        "POST", "/v1/consoles", json: "{\"target\":\"qemu/100\"" + padding + "}")
      #expect(whole.status == 201)
      let over = try await http(
        bed.port, "POST", "/v1/consoles",
        headers: ["Authorization": "Bearer \(TestBed.key)", "Content-Type": "application/json"],
        body: Array(("{\"target\":\"qemu/100\"" + padding + "  }").utf8))
      #expect(over.status == 413)
    }
  }

  @Test(
    "a wrong method is a 405 that says which are right",
    arguments: [
      ("POST", "/healthz", "GET, HEAD"), ("DELETE", "/v1/consoles", "GET, HEAD, POST"),
      ("PUT", "/v1/consoles/x", "DELETE, GET, HEAD"), ("OPTIONS", "/v1/inventory", "GET, HEAD"),
      ("POST", "/index.html", "GET, HEAD"), ("PATCH", "/v1/viewer", "GET, HEAD"),
    ])
  func methods(method: String, path: String, allow: String) async throws {
    try await TestBed.with { bed in
      let answer = try await http(bed.port, method, path, body: [])
      #expect(answer.status == 405)
      #expect(answer.headers["allow"] == allow)
    }
  }

  @Test("unknown addresses and unknown consoles are 404")
  func notFound() async throws {
    try await TestBed.with { bed in
      #expect(try await http(bed.port, "GET", "/v2/consoles").status == 404)
      #expect(try await http(bed.port, "GET", "/v1").status == 404)
      let answer = try await bed.call("GET", "/v1/consoles/nobody")
      #expect(answer.status == 404)
      #expect(answer.json["type"].string == "about:blank#unknown-console")
      #expect(try await bed.call("DELETE", "/v1/consoles/nobody").status == 404)
    }
  }

  @Test("a link that waits can be withdrawn")
  func withdraw() async throws {
    try await TestBed.with { bed in
      let (id, token) = try await bed.link("qemu/100")
      #expect(try await bed.call("DELETE", "/v1/consoles/\(id)").status == 204)
      let shown = try await bed.call("GET", "/v1/consoles/\(id)")
      #expect(shown.json["ending"]["kind"].string == "closed-by-operator")
      let viewer = try await RawViewer.open(bed.port, token: token)
      #expect(try await viewer.closed().code == Int(Ending.Kind.closedByOperator.closeCode))
    }
  }

  @Test("the inventory names nodes, guests and what consoles they have")
  func inventory() async throws {
    try await TestBed.with { bed in
      let answer = try await bed.call("GET", "/v1/inventory")
      let cluster = try #require(answer.json["clusters"].array?.first)
      #expect(cluster["name"].string == "home")
      #expect(cluster["version"].string == "9.2.11")
      #expect(cluster["nodes"].array?.first?["node"].string == "pve1")
      let guests = try #require(cluster["guests"].array)
      #expect(guests.count == 6)
      #expect(guests.first?["name"].string == "web1")
      #expect(guests.first?["tags"].array == [.string("a"), .string("b")])
      #expect(guests.first?["consoles"].array?.contains(.string("vnc")) == true)
    }
  }

  @Test("a cluster that fails is reported in its own entry of the inventory")
  func partialInventory() async throws {
    try await TestBed.with({ configuration, pve in
      var dead = pve.cluster("dead")
      dead.hosts = [APIHost(host: "127.0.0.1", port: 1)]
      configuration.clusters.append(dead)
    }) { bed in
      let clusters = try #require(
        try await bed.call("GET", "/v1/inventory").json["clusters"].array)
      #expect(clusters.count == 2)
      #expect(clusters[0]["guests"].array?.count == 6)
      #expect(clusters[1]["error"]["type"].string == "about:blank#api-unreachable")
      // And a target is still found where it is.
      #expect(
        try await bed.call("POST", "/v1/consoles", json: "{\"target\":\"qemu/100\"}").status == 201)
    }
  }

  @Test("a target that two clusters have needs the cluster's name")
  func twoClusters() async throws {
    try await TestBed.with({ configuration, pve in
      configuration.clusters.append(pve.cluster("away"))
    }) { bed in
      let answer = try await bed.call("POST", "/v1/consoles", json: "{\"target\":\"qemu/100\"}")
      #expect(answer.status == 409)
      #expect(answer.json["candidates"].array?.count == 2)
      let named = try await bed.call("POST", "/v1/consoles", json: "{\"target\":\"away:qemu/100\"}")
      #expect(named.status == 201)
      #expect(named.json["cluster"].string == "away")
    }
  }

  @Test(
    "what PVE refuses is a 502 with PVE's reason",
    arguments: [
      (401, "authentication failure", "unauthenticated"),
      (403, "Permission check failed (/, Sys.Audit)", "permission-denied"),
      (596, "tls_process_server_certificate", "node-unreachable"), (500, "boom", "api-error"),
    ])
  func upstreamErrors(status: Int, message: String, kind: String) async throws {
    try await TestBed.with { bed in
      bed.pve.change { $0.allFails = (status, message) }
      let answer = try await bed.call("POST", "/v1/consoles", json: "{\"target\":\"qemu/100\"}")
      #expect(answer.status == 502)
      #expect(answer.json["type"].string == "about:blank#\(kind)")
      #expect(answer.json["detail"].string?.contains("home") == true)
    }
  }

  @Test("behind a prefix everything is found with and without it, and links carry it")
  func prefix() async throws {
    try await TestBed.with({ configuration, _ in
      configuration.publicURL = PublicURL("https://console.example.com/pve")
    }) { bed in
      #expect(try await http(bed.port, "GET", "/pve/healthz").status == 200)
      #expect(try await http(bed.port, "GET", "/healthz").status == 200)
      #expect(try await http(bed.port, "GET", "/pve/").text.contains("inventory"))
      #expect(try await http(bed.port, "GET", "/pve/app.js").status == 200)
      let redirect = try await http(bed.port, "GET", "/pve")
      #expect(redirect.status == 308)
      #expect(redirect.headers["location"] == "/pve/")
      #expect(try await http(bed.port, "GET", "/pvelse/healthz").status == 404)
      let answer = try await bed.call("POST", "/pve/v1/consoles", json: "{\"target\":\"qemu/100\"}")
      #expect(
        answer.json["url"].string?.hasPrefix("https://console.example.com/pve/console.html#t=")
          == true)
      guard case .open = try await RawViewer.attempt(bed.port, path: "/pve/v1/viewer") else {
        Issue.record("the websocket is not under the prefix")
        return
      }
    }
  }

  @Test("a request is one line in the log, without its query and without secrets")
  func logging() async throws {
    try await TestBed.with { bed in
      _ = try await bed.call("GET", "/v1/consoles?state=waiting&state=open")
      let line = try #require(bed.lines.all.first { $0.contains("path=/v1/consoles") })
      #expect(line.contains("key=portal"))
      #expect(line.contains("method=GET"))
      #expect(line.contains("status=200"))
      #expect(!line.contains("state"))
      #expect(!bed.lines.all.contains { $0.contains(TestBed.key) })
    }
  }
}
