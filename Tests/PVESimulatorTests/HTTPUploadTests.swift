import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("Uploads through TLS")
  struct HTTPUploadTests {
    private static let path = "/api2/json/nodes/pve1/storage/local/upload"

    private static func body(
      _ fields: [(String, String)], file: String, name: String = "a.iso"
    ) -> String {
      var text = ""
      for (name, value) in fields {
        text += "--B\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n"
      }
      return text
        + "--B\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"\(name)\"\r\n"
        + "Content-Type: application/octet-stream\r\n\r\n\(file)\r\n--B--\r\n"
    }

    private func upload(
      _ pve: Simulator, _ body: String, as credential: TestCredential, path: String = path,
      type: String = "multipart/form-data; boundary=B"
    ) async throws -> TestAnswer {
      try await pve.raw(
        "POST \(path) HTTP/1.1\r\nHost: x\r\n\(credential.lines)Content-Type: \(type)\r\n"
          + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
    }

    @Test("a file arrives with its size, its checksum is looked at, and no CSRF token is needed")
    func checksums() async throws {
      try await withNode { pve in
        guard case .ticket(let ticket, _) = try await pve.login() else { return }
        let cookie = TestCredential.header("Cookie", "PVEAuthCookie=\(ticket)")
        let digest = lowerHex(sha256(Array("hello".utf8)))
        for (checksum, ending) in [(digest, "OK"), ("00", "checksum mismatch: got '\(digest)'")] {
          let answer = try await upload(
            pve,
            Self.body(
              [("content", "iso"), ("checksum-algorithm", "sha256"), ("checksum", checksum)],
              file: "hello"),
            as: cookie)
          #expect(answer.status == 200, "\(answer.reason)")
          #expect(answer.header("Connection") == "close")
          let upid = answer.data.asText ?? ""
          #expect(upid.hasPrefix("UPID:pve1:") && upid.contains(":imgcopy:"))
          #expect(try await pve.exitStatus(of: upid).hasPrefix(ending))
        }
      }
    }

    @Test("what PVE refuses of an upload")
    func refusals() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        let none = try await upload(
          pve, Self.body([], file: "x"), as: token)
        #expect(none.status == 400)
        #expect(
          none.json["errors"]?["content"] == "property is missing and it is not optional")
        let wrong = try await upload(
          pve, Self.body([("content", "iso")], file: "x", name: "a.txt"), as: token)
        #expect(wrong.status == 400)
        #expect(wrong.json["errors"]?["filename"] == "wrong file extension")
        let cut = try await upload(pve, "--B\r\nContent-Disposition: form-data\r\n", as: token)
        #expect(cut.status == 501)
        #expect(cut.reason.hasPrefix("upload failed"))
        let unnamed = try await pve.call(
          "POST", "/nodes/pve1/storage/local/upload?content=iso&filename=a.iso", as: token)
        #expect(unnamed.reason == "missing temporary file name")
        let missing = try await upload(
          pve, Self.body([("content", "iso")], file: "x"), as: token,
          path: "/api2/json/nodes/pve1/storage/nothing/upload")
        #expect(missing.status == 500)
        #expect(missing.reason == "storage 'nothing' does not exist")
      }
    }

    @Test("who may not upload is told before the file is read, 3 s after the head")
    func permission() async throws {
      try await withNode({ $0.timings.failureDelay = .milliseconds(300) }) { pve in
        let auditor = try await pve.login("auditor@pve")
        let start = ContinuousClock.now
        let answer = try await pve.raw(
          "POST \(Self.path) HTTP/1.1\r\nHost: x\r\n\(auditor.lines)"
            + "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 1000000\r\n\r\n")
        #expect(ContinuousClock.now - start >= .milliseconds(290))
        #expect(answer.status == 403)
        #expect(
          answer.reason == "Permission check failed (/storage/local, Datastore.AllocateTemplate)")
        #expect(answer.body.isEmpty)
      }
    }

    @Test("a body that is no multipart form, and one that stops, get no answer")
    func silence() async throws {
      try await withNode({ $0.timings.idleTimeout = .seconds(2) }) { pve in
        let auth = TestCredential.token(pve).lines
        let port = pve.port
        for type in [
          "application/octet-stream", "multipart/form-data", "multipart/mixed; boundary=B",
        ] {
          let silence = try await blocking {
            let connection = try TestConnection(port: port)
            try connection.write(
              "POST \(Self.path) HTTP/1.1\r\n\(auth)Content-Type: \(type)\r\nContent-Length: 3\r\n\r\nabc"
            )
            return connection.readToEnd(seconds: 10)
          }
          #expect(silence?.isEmpty == true)
        }
        let stopped = try await blocking {
          let connection = try TestConnection(port: port)
          try connection.write(
            "POST \(Self.path) HTTP/1.1\r\n\(auth)Content-Type: multipart/form-data; boundary=B\r\n"
              + "Content-Length: 3000\r\n\r\n--B\r\n")
          return connection.readToEnd(seconds: 10)
        }
        #expect(stopped?.isEmpty == true)
      }
    }

    @Test("headers without end before the file are cut off")
    func giantHeaders() async throws {
      try await withNode { pve in
        let auth = TestCredential.token(pve).lines
        let port = pve.port
        let end = try await blocking {
          let connection = try TestConnection(port: port)
          try connection.write(
            "POST \(Self.path) HTTP/1.1\r\n\(auth)Content-Type: multipart/form-data; boundary=B\r\n"
              + "Content-Length: 30000000\r\n\r\n--B\r\n")
          let junk = [UInt8](repeating: 65, count: 100_000)
          for _ in 0..<20 where (try? connection.write(junk)) == nil { break }
          return connection.readToEnd(seconds: 10)
        }
        #expect(end?.isEmpty == true)
        #expect(try await pve.call("GET", "/version", as: .token(pve)).status == 200)
      }
    }

    @Test("a file for another node is copied there by the node that was asked")
    func otherNode() async throws {
      try await withNode({ $0.otherNodes = ["pve2"] }) { pve in
        let answer = try await upload(
          pve, Self.body([("content", "vztmpl")], file: "x", name: "debian-12_1_amd64.tar.zst"),
          as: .token(pve), path: "/api2/json/nodes/pve2/storage/local/upload")
        #expect(answer.status == 200, "\(answer.reason)")
        let upid = answer.data.asText ?? ""
        #expect(upid.hasPrefix("UPID:pve1:"))
        #expect(try await pve.exitStatus(of: upid) == "OK")
      }
    }
  }
}

extension Simulator {
  /// Waits for a task's end.
  func exitStatus(of upid: String) async throws -> String {
    for _ in 0..<200 {
      let answer = try await call(
        "GET", "/nodes/pve1/tasks/\(percentEncoded(upid))/status", as: .token(self))
      if answer.data["status"]?.asText == "stopped" {
        return answer.data["exitstatus"]?.asText ?? ""
      }
      try await Task.sleep(for: .milliseconds(20))
    }
    throw ClientFailure(description: "the task has no end")
  }
}
