import EventLoop
import Foundation
import Synchronization

/// The page's files, served from memory.
///
/// What may be served is a list made by walking the folder, so a request can name nothing outside of it; hidden files
/// and links that lead out of the folder are not in the list. A file that changed on disk is read again.
final class StaticFiles: Sendable {
  private struct File: Sendable {
    let path: String
    let type: String
    var stamp: Stamp
    var body: [UInt8]
    var tag: String
  }

  private struct Stamp: Sendable, Equatable {
    let size: Int
    let seconds: Int
    let nanoseconds: Int
  }

  private struct State: Sendable {
    var files: [String: File] = [:]
    var scanned: ContinuousClock.Instant
  }

  /// The folder; nil when there is none.
  let root: String?
  private let state: Mutex<State>
  private static let maximumFile = 16 << 20
  private static let maximumFiles = 4096

  /// Walks and reads the folder.
  init(root: String?) {
    self.root = root.map { URL(fileURLWithPath: $0).resolvingSymlinksInPath().path }
    state = Mutex(State(files: [:], scanned: .now))
    let found = scan()
    state.withLock { $0.files = found }
  }

  /// Looks for the page beside the program and in the working folder.
  static func find() -> String? {
    let binary = CommandLine.arguments.first.map {
      URL(fileURLWithPath: $0).resolvingSymlinksInPath()
    }
    let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    var places = [URL(fileURLWithPath: FileManager.default.currentDirectoryPath)]
    for start in [program, binary].compactMap({ $0 }) {
      // .build/debug/sallyport and .build/x86_64-unknown-linux-gnu/debug/sallyport are three and four steps below web/.
      var folder = start.deletingLastPathComponent()
      for _ in 0..<4 {
        places.append(folder)
        folder = folder.deletingLastPathComponent()
      }
      places.append(
        start.deletingLastPathComponent().deletingLastPathComponent()
          .appendingPathComponent("share/sallyport"))
    }
    for place in places {
      let web = place.appendingPathComponent("web")
      if FileManager.default.fileExists(atPath: web.appendingPathComponent("index.html").path) {
        return web.path
      }
    }
    return nil
  }

  /// Answers a GET or HEAD for a path below the prefix; nil where there is no such file.
  func answer(_ path: String, _ request: HTTPRequest) -> HTTPResponse? {
    let name = path == "/" ? "index.html" : String(path.drop { $0 == "/" })
    if needsVendor(name), !hasVendor {
      return Self.notice(
        503, "The page's parts are missing",
        "noVNC and xterm.js are not in web/vendor. Run <code>make deps</code> and reload this page."
      )
    }
    guard let file = current(name) else {
      guard name == "index.html" else { return nil }
      return Self.notice(
        503, "The page is missing",
        "Its files were not found. Set <code>webRoot</code> to the folder <code>web</code> of Sallyport. "
          + "The API works without.")
    }
    let headers: [(name: String, value: String)] = [
      ("Content-Type", file.type), ("ETag", file.tag), ("Cache-Control", "no-cache"),
    ]
    let known = (request.headers["if-none-match"] ?? "").split(separator: ",").map {
      $0.drop { $0 == " " }
    }
    if known.contains(where: { $0 == file.tag || $0 == "*" || $0.hasPrefix("W/\(file.tag)") }) {
      return HTTPResponse(status: 304, headers: headers)
    }
    return HTTPResponse(status: 200, headers: headers, body: file.body)
  }

  /// Whether the file is a page, which gets the policy of pages.
  private func needsVendor(_ name: String) -> Bool {
    name == "console.html" || name.hasPrefix("vendor/")
  }

  private var hasVendor: Bool {
    if state.withLock({ $0.files.keys.contains { $0.hasPrefix("vendor/") } }) { return true }
    rescan()
    return state.withLock { $0.files.keys.contains { $0.hasPrefix("vendor/") } }
  }

  private func current(_ name: String) -> File? {
    guard let file = state.withLock({ $0.files[name] }) else {
      rescan()
      return state.withLock { $0.files[name] }
    }
    guard let stamp = Self.stamp(file.path) else { return file }
    if stamp == file.stamp { return file }
    guard let fresh = Self.load(file.path, stamp: stamp) else { return file }
    state.withLock { $0.files[name] = fresh }
    return fresh
  }

  /// Looks for new files, at most every other second.
  private func rescan() {
    let now = ContinuousClock.now
    let due = state.withLock { state in
      guard now - state.scanned > .seconds(2) else { return false }
      state.scanned = now
      return true
    }
    guard due else { return }
    let found = scan()
    state.withLock { $0.files = found }
  }

  private func scan() -> [String: File] {
    guard let root,
      let walk = FileManager.default.enumerator(
        at: URL(fileURLWithPath: root), includingPropertiesForKeys: nil)
    else { return [:] }
    var out: [String: File] = [:]
    for case let url as URL in walk {
      guard out.count < Self.maximumFiles else { break }
      if url.lastPathComponent.hasPrefix(".") {
        walk.skipDescendants()
        continue
      }
      let real = url.resolvingSymlinksInPath().path
      guard real.hasPrefix(root + "/"), url.path.hasPrefix(root + "/"),
        let stamp = Self.stamp(real), let file = Self.load(real, stamp: stamp)
      else { continue }
      out[String(url.path.dropFirst(root.count + 1))] = file
    }
    return out
  }

  private static func stamp(_ path: String) -> Stamp? {
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return nil }
    return Stamp(
      size: Int(status.st_size), seconds: Int(status.st_mtim.tv_sec),
      nanoseconds: Int(status.st_mtim.tv_nsec))
  }

  private static func load(_ path: String, stamp: Stamp) -> File? {
    guard stamp.size <= maximumFile, let data = FileManager.default.contents(atPath: path) else {
      return nil
    }
    let body = [UInt8](data)
    let tag = "\"" + Random.base64url(Array(Random.sha256(body).prefix(18))) + "\""
    return File(path: path, type: type(of: path), stamp: stamp, body: body, tag: tag)
  }

  private static func type(of path: String) -> String {
    switch path.lowercased().split(separator: ".").last.map(String.init) ?? "" {
    case "html": "text/html; charset=utf-8"
    case "js", "mjs": "text/javascript; charset=utf-8"
    case "css": "text/css; charset=utf-8"
    case "json", "map", "webmanifest": "application/json"
    case "svg": "image/svg+xml"
    case "png": "image/png"
    case "ico": "image/x-icon"
    case "jpg", "jpeg": "image/jpeg"
    case "woff2": "font/woff2"
    case "wasm": "application/wasm"
    case "mp3": "audio/mpeg"
    case "oga", "ogg": "audio/ogg"
    default: "text/plain; charset=utf-8"
    }
  }

  /// A small page of words.
  static func notice(_ status: Int, _ title: String, _ html: String) -> HTTPResponse {
    let page = """
      <!doctype html><html lang="en"><meta charset="utf-8"><title>\(title)</title>
      <body style="font:16px/1.5 system-ui;margin:4rem auto;max-width:36rem;padding:0 1rem">
      <h1 style="font-size:1.4rem">\(title)</h1><p>\(html)</p></body></html>
      """
    return HTTPResponse(
      status: status,
      headers: [("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store")],
      body: Array(page.utf8))
  }
}
