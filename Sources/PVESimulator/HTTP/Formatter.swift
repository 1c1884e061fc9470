/// Writes results and errors in one of pveproxy's formats: `/api2/json`, `/api2/extjs` …
enum Formatter: String {
  case json, extjs, htmljs, html, spiceconfig, png

  /// What an answer is about; pages show it.
  struct Subject {
    var method: String
    /// Relative to the API.
    var path: String
  }

  /// A result.
  func success(_ result: APIResult, _ subject: Subject) -> Response {
    var members: [JSON.Member] = [.init(key: "data", value: result.data)]
    // Perl leaves out what is not true.
    if let total = result.total, total != 0 {
      members.append(.init(key: "total", value: .int(total)))
    }
    if self == .extjs || self == .htmljs { members.append(.init(key: "success", value: 1)) }
    var response = Response(status: 200, reason: "OK", isRelayed: result.isRelayed)
    switch self {
    case .json, .extjs, .htmljs: write(.object(members), into: &response)
    case .html: Page.show(result, subject, into: &response)
    case .spiceconfig:
      response.body = Formatter.viewerFile(result.data)
      response.contentType = "application/x-virt-viewer;charset=UTF-8"
    case .png:
      response.body = result.image
      response.contentType = "image/png"
      response.isCompressible = false
    }
    return response
  }

  /// An error.
  func failure(_ error: APIError, _ subject: Subject, hasMessages: Bool) -> Response {
    // Messages from `die` end with a newline; the router's own don't.
    let message = error.message + (error.isRouters ? "" : "\n")
    let wraps = self == .extjs || self == .htmljs
    var members: [JSON.Member] = [.init(key: "data", value: .null)]
    if !error.fields.isEmpty {
      let fields = error.fields.map { JSON.Member(key: $0.name, value: .string($0.text)) }
      members.append(.init(key: "errors", value: .object(fields)))
    }
    if wraps || (self == .json && hasMessages) {
      members.append(.init(key: "message", value: .string(message)))
    }
    if wraps {
      members.append(.init(key: "success", value: 0))
      members.append(.init(key: "status", value: .int(error.status)))
    }
    var response = Response(
      status: wraps ? 200 : error.status, reason: wraps ? "OK" : error.message)
    response.isDelayed = error.status == 401
    switch self {
    case .json, .extjs, .htmljs: write(.object(members), into: &response)
    case .html: Page.show(error, .object(members), subject, into: &response)
    case .spiceconfig: response.contentType = "application/x-virt-viewer;charset=UTF-8"
    case .png: response.contentType = "image/png"
    }
    return response
  }

  private func write(_ json: JSON, into response: inout Response) {
    if self == .htmljs {
      // For forms in hidden frames: the same, so that a browser takes it for text.
      response.body = Array(Page.escaped(json.text).utf8)
      response.contentType = Response.html
    } else {
      response.body = json.bytes
      response.contentType = Response.json
    }
  }

  /// What the viewer of a SPICE console is started with.
  private static func viewerFile(_ data: JSON) -> [UInt8] {
    guard case .object(let members) = data else { return [] }
    var text = "[virt-viewer]\n"
    for member in members where member.value != .null {
      let value = if case .string(let s) = member.value { s } else { member.value.text }
      text += "\(member.key)=\(value)\n"
    }
    return Array(text.utf8)
  }
}

extension APIResult {
  /// A graph's picture: bytes in the member `image`, one character each.
  fileprivate var image: [UInt8] {
    guard case .string(let text)? = data["image"], data["filename"] != nil else { return [] }
    return text.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) }
  }
}
