import ConsoleProtocol
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("The node's HTTP and API, through TLS")
  struct NodeHTTPTests {
    @Test("version, with the headers and the body of a recorded node")
    func version() async throws {
      try await withNode { pve in
        let answer = try await pve.call("GET", "/version", as: .token(pve))
        #expect(answer.status == 200)
        #expect(
          answer.headers.map(\.0) == [
            "Cache-Control", "Connection", "Date", "Pragma", "Server", "Content-Length",
            "Content-Type", "Expires",
          ])
        #expect(answer.header("Server") == "pve-api-daemon/3.0")
        #expect(answer.header("Content-Type") == "application/json;charset=UTF-8")
        #expect(answer.header("Content-Length") == "65")
        #expect(answer.data["version"] == "9.2.11")
        let wrapped = try await pve.call("GET", "/api2/extjs/version", as: .token(pve))
        #expect(wrapped.json["success"] == 1)
      }
    }

    @Test("refusals are a recorded node's, word for word")
    func refusals() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        struct Case {
          var method = "GET"
          var path: String
          var form: [String: String] = [:]
          var status: Int
          var reason: String
          var body: String
        }
        let notInSchema =
          "property is not defined in schema and the schema does not allow additional properties"
        let failed = "Parameter verification failed."
        func fields(_ text: String) -> String {
          #"{"data":null,"errors":{\#(text)},"message":"Parameter verification failed.\n"}"#
        }
        let cases = [
          Case(
            method: "POST", path: "/access/ticket", form: ["username": "root@pam"], status: 400,
            reason: failed,
            body: fields(#""password":"property is missing and it is not optional""#)),
          Case(
            path: "/version?nonsense=1", status: 400, reason: failed,
            body: fields(#""nonsense":"\#(notInSchema)""#)),
          Case(
            path: "/nodes/pve1/qemu/abc/config", status: 400, reason: failed,
            body: fields(#""vmid":"type check ('integer') failed - got 'abc'""#)),
          Case(
            path: "/nodes/pve1/qemu/999/config", status: 500,
            reason: "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist",
            body:
              #"{"data":null,"message":"Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n"}"#
          ),
          Case(
            path: "/nodes/nope/status", status: 500,
            reason:
              "hostname lookup 'nope' failed - failed to get address info for: nope: Name or service not known",
            body:
              #"{"data":null,"message":"hostname lookup 'nope' failed - failed to get address info for: nope: Name or service not known\n"}"#
          ),
          Case(
            path: "/nosuch", status: 501, reason: "Method 'GET /nosuch' not implemented",
            body: #"{"data":null,"message":"Method 'GET /nosuch' not implemented"}"#),
          Case(
            method: "POST", path: "/nodes/pve1/lxc/200/exec", form: ["command": "ls"], status: 501,
            reason: "Method 'POST /nodes/pve1/lxc/200/exec' not implemented",
            body:
              #"{"data":null,"message":"Method 'POST /nodes/pve1/lxc/200/exec' not implemented"}"#),
          Case(
            method: "POST", path: "/nodes/pve1/qemu/100/termproxy", form: ["serial": "serial9"],
            status: 400, reason: failed,
            body: fields(
              #""serial":"value 'serial9' does not have a value in the enumeration 'serial0, serial1, serial2, serial3'""#
            )),
          Case(
            method: "POST", path: "/nodes/pve1/vncshell", form: ["websocket": "1"], status: 500,
            reason: "value 'root@pam!sallyport' does not look like a valid user name",
            body:
              #"{"data":null,"message":"value 'root@pam!sallyport' does not look like a valid user name\n"}"#
          ),
        ]
        for c in cases {
          let who = c.path == "/access/ticket" ? TestCredential.none : token
          let answer = try await pve.call(c.method, c.path, c.form, as: who)
          #expect(answer.status == c.status, "\(c.path)")
          #expect(answer.reason == c.reason)
          #expect(answer.body == c.body)
          #expect(answer.header("Connection") == "close")
        }
        let asToken = try await pve.call("POST", "/access/ticket", ["username": "x"], as: token)
        #expect(asToken.status == 403)
        #expect(
          asToken.reason
            == "Permission check failed (URI '/access/ticket' not available with API token, need proper ticket."
        )
        let wrapped = try await pve.call("GET", "/api2/extjs/nodes/pve1/qemu/999/config", as: token)
        #expect(wrapped.status == 200)
        #expect(wrapped.json["status"] == 500)
        #expect(wrapped.json["success"] == 0)
      }
    }

    @Test("what pveproxy refuses by itself has no JSON around it")
    func proxyRefusals() async throws {
      try await withNode { pve in
        let auth = TestCredential.token(pve).lines
        let start = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(auth)"
        let cases: [(String, Int, String, String)] = [
          ("HEAD /api2/json/version \(start)\r\n", 501, "method 'HEAD' not available", ""),
          ("PATCH /api2/json/version \(start)\r\n", 501, "method 'PATCH' not available", ""),
          (
            "POST /api2/json/access/ticket \(start)Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            501,
            "chunked transfer encoding not supported", "chunked transfer encoding not supported"
          ),
          (
            "GET /api2/json/version \(start)Content-Length: 3\r\n\r\na=1", 501,
            "Unexpected content for method 'GET'", "Unexpected content for method 'GET'"
          ),
          (
            "POST /api2/json/access/ticket \(start)Content-Length: 600002\r\n\r\n", 501,
            "for data too large", "for data too large"
          ),
          (
            "POST /api2/json/nodes/pve1/termproxy \(start)Content-Type: text/xml\r\nContent-Length: 4\r\n\r\n<a/>",
            506, "upload 'Content-Type 'text/xml' not implemented",
            "upload 'Content-Type 'text/xml' not implemented"
          ),
          (
            "POST /api2/json/nodes/pve1/termproxy \(start)Content-Type: application/json;charset=UTF-8\r\nContent-Length: 1\r\n\r\n{",
            500,
            "'\"' expected, at character offset 1 (before \"(end of string)\") at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 934.",
            "'\"' expected, at character offset 1 (before \"(end of string)\") at /usr/share/perl5/PVE/APIServer/AnyEvent.pm line 934.\n"
          ),
          (
            "GET /api2/yaml/version \(start)\r\n", 501, "no formatter for uri /version, yaml",
            "no formatter for uri /version, yaml"
          ),
          ("GET /api2 \(start)\r\n", 501, "no such uri", "no such uri"),
          (
            "GET /nothing \(start)\r\n", 501, "no such file '/nothing'", "no such file '/nothing'\n"
          ),
          ("nonsense\r\n\r\n", 400, "bad request", "bad request"),
        ]
        for (request, status, reason, body) in cases {
          let answer = try await pve.raw(request)
          #expect(answer.status == status)
          #expect(answer.reason == reason)
          #expect(answer.body == body)
          #expect(answer.header("Content-Type") == nil)
        }
      }
    }

    @Test("a 401 comes three seconds after the request, with an empty body at the auth stage")
    func unauthorised() async throws {
      try await withNode({ $0.timings = Timings() }) { pve in
        let began = ContinuousClock.now
        async let none = pve.call("GET", "/nodes")
        async let cookie = pve.call("GET", "/nodes", as: .header("Cookie", "PVEAuthCookie=garbage"))
        async let token = pve.call(
          "GET", "/nodes", as: .header("Authorization", "PVEAPIToken=root@pam!nope=00"))
        async let login = pve.call(
          "POST", "/access/ticket", ["username": "root@pam", "password": "wrong"])
        let answers = try await [none, cookie, token, login]
        #expect(ContinuousClock.now - began >= .milliseconds(2990))
        #expect(answers.map(\.status) == [401, 401, 401, 401])
        #expect(
          answers.map(\.reason) == [
            "No ticket", "Authentication failed!", "Authentication failed!",
            "authentication failure",
          ])
        #expect(answers.map(\.body).prefix(3) == ["", "", ""])
        #expect(answers[0].header("Content-Length") == nil)
        #expect(answers[3].body == #"{"data":null,"message":"authentication failure\n"}"#)
      }
    }

    @Test("tickets need a CSRF token to write, tokens don't; a cookie beats a token")
    func credentials() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        guard case .ticket(let ticket, let csrf) = root else { return }
        let raw = TestCredential.header("Cookie", "a=b; PVEAuthCookie=\(ticket); c=d")
        #expect(try await pve.call("GET", "/nodes", as: raw).status == 200)
        #expect(
          try await pve.call(
            "GET", "/nodes", as: .header("Authorization", "PVEAuthCookie=\(ticket)")
          )
          .status == 200)
        let path = "/nodes/pve1/qemu/100/termproxy"
        let refused = try await pve.call("POST", path, as: raw)
        #expect(refused.status == 401)
        #expect(refused.reason == "Permission denied - invalid csrf token")
        #expect(try await pve.call("POST", path, as: root).status == 200)
        #expect(try await pve.call("POST", path, as: .token(pve)).status == 200)
        let both = try await pve.call(
          "GET", "/nodes", as: .token(pve), headers: "Cookie: PVEAuthCookie=garbage\r\n")
        #expect(both.status == 401)
        let spaced = "PVEAPIToken \(pve.tokenID)=\(pve.tokenSecret.reveal())"
        #expect(
          try await pve.call("GET", "/nodes", as: .header("Authorization", spaced)).status == 200)
        // Renewal: the old ticket as password.
        let renewed = try await pve.call(
          "POST", "/access/ticket", ["username": "root@pam", "password": ticket])
        #expect(renewed.status == 200)
        pve.clock.advance(seconds: 7300)
        #expect(try await pve.call("GET", "/nodes", as: root).status == 401)
        #expect(
          try await pve.call(
            "POST", "/access/ticket", ["username": "root@pam", "password": ticket]
          )
          .status == 401)
        #expect(!csrf.isEmpty)
      }
    }

    @Test("a user with a second factor logs in in two steps")
    func secondFactor() async throws {
      try await withNode { pve in
        let password = pve.password(of: "totp@pve")?.reveal() ?? ""
        let first = try await pve.call(
          "POST", "/access/ticket", ["username": "totp@pve", "password": password])
        #expect(first.data["NeedTFA"] == 1)
        #expect(first.data["cap"] == nil)
        let pending = first.data["ticket"]?.asText ?? ""
        let code = totpCode(
          secret: base32Decoded("JBSWY3DPEHPK3PXP") ?? [], counter: pve.clock.now / 30)
        let second = try await pve.call(
          "POST", "/access/ticket",
          ["username": "totp@pve", "tfa-challenge": pending, "password": "totp:\(code)"])
        #expect(second.status == 200)
        #expect(second.data["ticket"]?.asText?.hasPrefix("PVE:totp@pve:") == true)
      }
    }

    @Test("privileges: an auditor sees everything and opens nothing")
    func privileges() async throws {
      try await withNode { pve in
        let auditor = try await pve.login("auditor@pve")
        let resources = try await pve.call("GET", "/cluster/resources?type=vm", as: auditor)
        #expect(resources.data.items.count == 5)
        let screen = try await pve.call("POST", "/nodes/pve1/qemu/100/vncproxy", as: auditor)
        #expect(screen.status == 403)
        #expect(screen.reason == "Permission check failed (/vms/100, VM.Console)")
        let shell = try await pve.call("POST", "/nodes/pve1/termproxy", as: auditor)
        #expect(shell.reason == "Permission check failed (/nodes/pve1, Sys.Console)")
        let stop = try await pve.call("POST", "/nodes/pve1/qemu/100/status/stop", as: auditor)
        #expect(stop.reason == "Permission check failed (/vms/100, VM.PowerMgmt)")
      }
    }

    @Test("a hundred requests a connection, five idle seconds, and silence after too many headers")
    func connections() async throws {
      try await withNode({ $0.timings.idleTimeout = .seconds(2) }) { pve in
        let auth = TestCredential.token(pve).lines
        let port = pve.port
        let (kept, closed, silent) = try await blocking {
          let connection = try TestConnection(port: port)
          var kept = 0
          for _ in 0..<100 {
            try connection.write("GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\(auth)\r\n")
            let head = try connection.read(upTo: "\r\n\r\n")
            _ = try connection.read(65)
            if head.contains("Connection: Keep-Alive") { kept += 1 }
          }
          let closed = connection.readToEnd(seconds: 5) != nil
          let idle = try TestConnection(port: port)
          let long = try TestConnection(port: port)
          let lines = (0..<70).map { "X-\($0): 1\r\n" }.joined()
          try long.write("GET /api2/json/version HTTP/1.1\r\n\(auth)\(lines)\r\n")
          let silent = long.readToEnd(seconds: 5)?.isEmpty == true
          return (kept, closed && idle.readToEnd(seconds: 5)?.isEmpty == true, silent)
        }
        #expect(kept == 99)
        #expect(closed)
        #expect(silent)
      }
    }

    @Test("requests behind each other on one connection are answered in order")
    func pipelining() async throws {
      try await withNode { pve in
        let auth = TestCredential.token(pve).lines
        let one = "GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\(auth)\r\n"
        let last = "GET /api2/json/nosuch HTTP/1.1\r\nHost: x\r\n\(auth)\r\n"
        let port = pve.port
        let text = try await blocking {
          let connection = try TestConnection(port: port)
          for byte in (one + one + last).utf8.map({ [$0] }) { try connection.write(byte) }
          return String(decoding: connection.readToEnd(seconds: 10) ?? [], as: UTF8.self)
        }
        #expect(text.split(separator: "HTTP/1.1 200 OK").count == 2)
        #expect(text.contains("HTTP/1.1 501 Method"))
      }
    }

    @Test("the journal knows requests and no secrets")
    func journal() async throws {
      try await withNode { pve in
        _ = try await pve.call(
          "POST", "/access/ticket", ["username": "root@pam", "password": "wrong-secret"])
        _ = try await pve.call("GET", "/nodes?_dc=1", as: .token(pve))
        let entries = pve.journal.entries
        #expect(entries.map(\.path) == ["/api2/json/access/ticket", "/api2/json/nodes"])
        #expect(entries.map(\.status) == [401, 200])
        #expect(entries.last?.user == "root@pam!sallyport")
        #expect(Set(entries.first?.parameters ?? []) == ["username", "password"])
        #expect(!"\(entries)".contains("wrong-secret"))
      }
    }

    @Test("random bytes never take the node down")
    func hostile() async throws {
      try await withNode { pve in
        let port = pve.port
        try await blocking {
          var state: UInt64 = 7
          func random() -> UInt64 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return state >> 33
          }
          let starts = [
            "", "GET ", "POST /api2/json/access/ticket HTTP/1.1\r\nContent-Length: 50\r\n\r\n",
          ]
          for _ in 0..<60 {
            let connection = try TestConnection(port: port)
            let noise = (0..<Int(random() % 3000)).map { _ in UInt8(truncatingIfNeeded: random()) }
            try? connection.write(Array(starts[Int(random() % 3)].utf8) + noise)
          }
        }
        #expect(try await pve.call("GET", "/version", as: .token(pve)).status == 200)
      }
    }
  }
}
