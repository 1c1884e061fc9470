import Foundation
import Testing

@testable import Gateway

@Suite("The page's files", .serialized)
struct StaticFilesTests {
  @Test(
    "every kind of file has its type",
    arguments: [
      ("/", "text/html; charset=utf-8"), ("/index.html", "text/html; charset=utf-8"),
      ("/console.html", "text/html; charset=utf-8"), ("/app.js", "text/javascript; charset=utf-8"),
      ("/style.css", "text/css; charset=utf-8"), ("/icon.svg", "image/svg+xml"),
      ("/vendor/novnc/rfb.js", "text/javascript; charset=utf-8"),
    ])
  func types(path: String, type: String) async throws {
    try await TestBed.with { bed in
      let answer = try await http(bed.port, "GET", path)
      #expect(answer.status == 200)
      #expect(answer.headers["content-type"] == type)
      #expect(answer.headers["cache-control"] == "no-cache")
    }
  }

  @Test("the security headers are strict")
  func headers() async throws {
    try await TestBed.with { bed in
      let page = try await http(bed.port, "GET", "/console.html")
      let policy = try #require(page.headers["content-security-policy"])
      #expect(policy.hasPrefix("default-src 'none'; script-src 'self'; "))
      #expect(policy.contains("connect-src 'self'"))
      #expect(policy.contains("frame-ancestors 'none'"))
      #expect(!policy.contains("unsafe-eval"))
      #expect(page.headers["x-content-type-options"] == "nosniff")
      #expect(page.headers["referrer-policy"] == "no-referrer")
      #expect(page.headers["x-frame-options"] == "DENY")
      #expect(page.headers["cross-origin-opener-policy"] == "same-origin")
      #expect(page.headers["permissions-policy"]?.contains("camera=()") == true)
      #expect(page.headers["strict-transport-security"] == nil)
      let api = try await http(bed.port, "GET", "/v1/consoles")
      #expect(api.headers["x-content-type-options"] == "nosniff")
      #expect(api.headers["cache-control"] == "no-store")
    }
  }

  @Test("a portal that may frame us is named instead of X-Frame-Options")
  func ancestors() async throws {
    try await TestBed.with({ configuration, _ in
      configuration.frameAncestors = ["https://portal.example.com"]
      configuration.publicURL = PublicURL("https://console.example.com")
    }) { bed in
      let page = try await http(bed.port, "GET", "/console.html")
      #expect(
        page.headers["content-security-policy"]?.contains(
          "frame-ancestors https://portal.example.com") == true)
      #expect(page.headers["x-frame-options"] == nil)
      #expect(page.headers["strict-transport-security"] != nil)
    }
  }

  @Test("a known tag is answered with 304, and HEAD without a body")
  func tags() async throws {
    try await TestBed.with { bed in
      let first = try await http(bed.port, "GET", "/app.js")
      let tag = try #require(first.headers["etag"])
      let again = try await http(bed.port, "GET", "/app.js", headers: ["If-None-Match": tag])
      #expect(again.status == 304)
      let other = try await http(bed.port, "GET", "/app.js", headers: ["If-None-Match": "\"x\""])
      #expect(other.status == 200)
      let head = try await http(bed.port, "HEAD", "/app.js")
      #expect(head.status == 200)
      #expect(head.headers["content-length"] == "9")
    }
  }

  @Test("a file that changed is served as it is now")
  func changed() async throws {
    let folder = try TestBed.webFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try await TestBed.with({ configuration, _ in configuration.webRoot = folder + "/web" }) { bed in
      #expect(try await http(bed.port, "GET", "/app.js").text == "export {}")
      try Data("export { now }".utf8).write(to: URL(fileURLWithPath: folder + "/web/app.js"))
      #expect(try await http(bed.port, "GET", "/app.js").text == "export { now }")
    }
  }

  @Test(
    "nothing outside of the folder, nothing hidden and no folder is served",
    arguments: [
      "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/vendor/../../secret.txt",
      "/vendor/%2e%2e/%2e%2e/secret.txt", "/way-out.txt", "/.hidden", "/vendor", "/vendor/",
      "/etc/passwd", "//etc/passwd", "/index.html/", "/index.html%00.js", "/INDEX.HTML",
    ])
  func escapes(path: String) async throws {
    try await TestBed.with { bed in
      let answer = try? await http(bed.port, "GET", path)
      // The server may also refuse the request line as a whole.
      if let answer {
        #expect(answer.status != 200 || !answer.text.contains("secret"), "\(answer.status)")
        #expect(
          answer.status == 404 || answer.status == 403 || answer.status == 400, "\(answer.status)")
        #expect(!answer.text.contains("hidden"))
      }
    }
  }

  @Test("without noVNC and xterm.js the page says what to run")
  func vendor() async throws {
    let folder = try TestBed.webFolder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.removeItem(atPath: folder + "/web/vendor")
    try await TestBed.with({ configuration, _ in configuration.webRoot = folder + "/web" }) { bed in
      let page = try await http(bed.port, "GET", "/console.html")
      #expect(page.status == 503)
      #expect(page.text.contains("make deps"))
      #expect(try await http(bed.port, "GET", "/").status == 200)
    }
  }

  @Test("without a folder the API works and the page says what is missing")
  func noFolder() async throws {
    try await TestBed.with({ configuration, _ in configuration.webRoot = "/nowhere" }) { bed in
      let page = try await http(bed.port, "GET", "/")
      #expect(page.status == 503)
      #expect(page.text.contains("webRoot"))
      #expect(try await http(bed.port, "GET", "/healthz").status == 200)
    }
  }
}
