/// The pages that pveproxy makes of API answers, `/api2/html/…`: the same content in fewer words.
enum Page {
  /// Where who isn't logged in is sent.
  static let loginPath = "/api2/html/access/ticket"

  /// A result: JSON in a page; the login form, or the way on after a login.
  static func show(
    _ result: APIResult, _ subject: Formatter.Subject, into response: inout Response
  ) {
    guard subject.path == "/access/ticket" else {
      fill(
        &response, subject,
        "<pre>\(escaped(pretty(.object([.init(key: "data", value: result.data)]))))</pre>")
      return
    }
    if subject.method == "POST", case .string(let ticket)? = result.data["ticket"] {
      response = .moved(301, "Moved", to: "/api2/html")
      response.cookie =
        "PVEAuthCookie=\(percentEncoded(ticket)); path=/; secure; SameSite=Lax;"
      return
    }
    fill(&response, subject, form)
  }

  /// An error.
  static func show(
    _ error: APIError, _ document: JSON, _ subject: Formatter.Subject,
    into response: inout Response
  ) {
    guard subject.path != "/access/ticket" else {
      fill(&response, subject, form)
      return
    }
    fill(
      &response, subject,
      "<p>Error \(error.status): \(escaped(error.message))</p><pre>\(escaped(pretty(document)))</pre>"
    )
  }

  private static let form = """
    <form method="POST" action="\(loginPath)"><label>Please sign in</label>
    <input type="text" name="username" placeholder="Enter user name" required>
    <input type="password" name="password" placeholder="Password" required>
    <button type="submit">Sign in</button></form>
    """

  private static func fill(
    _ response: inout Response, _ subject: Formatter.Subject, _ content: String
  ) {
    var trail = "<a href=\"/api2/html\">Home</a>"
    var place = "/api2/html"
    for part in subject.path.split(separator: "/") {
      place += "/" + percentEncoded(String(part))
      trail += " / <a href=\"\(place)\">\(escaped(String(part)))</a>"
    }
    let text = """
      <!DOCTYPE html><html><head><title>Proxmox VE API</title></head>
      <body><p>\(trail)</p>
      \(content)
      </body></html>

      """
    response.body = Array(text.utf8)
    response.contentType = Response.html
  }

  /// With entities for what HTML or an old browser could take for something else.
  static func escaped(_ text: String) -> String {
    var out = ""
    for c in text.unicodeScalars {
      switch c {
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "&": out += "&amp;"
      case "\"": out += "&quot;"
      case "'": out += "&#39;"
      case _ where c.value > 126 || (c.value < 32 && c != "\n" && c != "\t" && c != "\r"):
        out += "&#x\(String(c.value, radix: 16, uppercase: true));"
      default: out.unicodeScalars.append(c)
      }
    }
    return out
  }

  /// JSON over several lines, members sorted.
  static func pretty(_ json: JSON, indent: String = "") -> String {
    let deeper = indent + "   "
    switch json {
    case .array(let items) where !items.isEmpty:
      let lines = items.map { deeper + pretty($0, indent: deeper) }
      return "[\n" + lines.joined(separator: ",\n") + "\n\(indent)]"
    case .object(let members) where !members.isEmpty:
      let lines = members.sorted { $0.key < $1.key }.map {
        "\(deeper)\(JSON.string($0.key).text) : \(pretty($0.value, indent: deeper))"
      }
      return "{\n" + lines.joined(separator: ",\n") + "\n\(indent)}"
    default: return json.text
    }
  }
}
