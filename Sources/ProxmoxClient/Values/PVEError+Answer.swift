import ConsoleProtocol

extension PVEError {
  /// Reads a refusal. PVE puts its message into the body's `message` since pve-http-server 5.2.0 (January 2025), and
  /// into the reason phrase always; a bare text body is the server's own error; 401s have no body at all.
  init(
    status: Int, reason: String, headers: [(name: String, value: String)], body: [UInt8],
    method: HTTPMethod, path: String, host: String?
  ) {
    let json = (try? JSONParser.parse(body)) ?? .null
    var fields: [String: String] = [:]
    for (name, value) in json["errors"].object ?? [:] {
      fields[name] = Self.clean(value.string ?? value.description)
    }
    var message = Self.clean(json["message"].string ?? "")
    if message.isEmpty { message = Self.clean(reason) }
    if message.isEmpty, json.isNull, body.first != UInt8(ascii: "<") {
      message = Self.clean(String(decoding: body.prefix(4096), as: UTF8.self))
    }
    if message.isEmpty { message = "no reason given" }
    self.init(
      kind: .failed, status: status, message: message, fields: fields, method: method, path: path,
      host: host)
    if (300..<400).contains(status) {
      let target = headers.first { $0.name.lowercased() == "location" }?.value
      kind = .redirected(
        to: target.map { Self.clean(String($0.prefix { $0 != "?" && $0 != "#" })) })
    } else {
      kind = Self.kind(status: status, message: message, path: path)
    }
    hint = Self.hint(for: kind)
  }

  /// One line, no control characters, no more than 500 characters.
  static func clean(_ text: String) -> String {
    var out = ""
    for c in text.unicodeScalars.prefix(2000) {
      if c.value < 32 || c.value == 127 {
        if !out.hasSuffix(" ") { out += " " }
      } else {
        out.unicodeScalars.append(c)
      }
    }
    while out.hasSuffix(" ") { out.removeLast() }
    while out.hasPrefix(" ") { out.removeFirst() }
    return out.count > 500 ? out.prefix(499) + "…" : out
  }

  private static func kind(status: Int, message: String, path: String) -> Kind {
    switch status {
    case 400: return .badParameters
    case 401: return .unauthenticated
    case 403: return forbidden(message)
    case 413: return .tooLarge
    case 501:
      return message.contains("data too large") ? .tooLarge : .notImplemented
    case 595...599: return .nodeUnreachable
    default: break
    }
    if message.contains("does not look like a valid user name") { return .tokenUnsupported }
    if message.hasPrefix("Configuration file '"), message.contains("does not exist") {
      return .guestNotFound
    }
    if message.contains("hostname lookup '"), message.contains("failed") { return .nodeNotFound }
    if message.contains("no such cluster node") { return .nodeNotFound }
    if message.contains("unable to find free port") { return .portsExhausted }
    if message.contains("Timeout while waiting for port") { return .workerTimeout }
    if message.contains("is locked (") || message.contains("can't lock file") { return .locked }
    if message.contains("not running") { return .guestNotRunning }
    return (400..<500).contains(status) ? .refused : .failed
  }

  /// `Permission check failed (/vms/100, VM.Console)`, or `(user != root@pam)`, or about tokens.
  private static func forbidden(_ message: String) -> Kind {
    if message.contains("not available with API token") { return .tokenUnsupported }
    guard let open = message.firstIndex(of: "("), let close = message.lastIndex(of: ")"),
      open < close
    else { return .forbidden(path: nil, privilege: nil) }
    let inner = message[message.index(after: open)..<close]
    guard inner.hasPrefix("/"), let comma = inner.firstIndex(of: ",") else {
      return .forbidden(path: nil, privilege: nil)
    }
    let privilege = inner[inner.index(after: comma)...].drop { $0 == " " }
    return .forbidden(path: String(inner[..<comma]), privilege: String(privilege))
  }

  /// What to do about a kind, in a sentence.
  static func hint(for kind: Kind) -> String {
    switch kind {
    case .unauthenticated:
      "Check that the token or ticket exists, is not expired, and belongs to this cluster"
    case .loginFailed:
      "PVE doesn't say which part is wrong: check user, realm (user@pam or user@pve), password and second factor"
    case .secondFactorNeeded: "Configure a TOTP secret for the account, or use an API token"
    case .forbidden(let path?, let privilege?):
      "Give the user or token a role with \(privilege.split(separator: "|").joined(separator: " or ")) on \(path)"
        + " (a token with privilege separation needs it itself)"
    case .forbidden: "PVE allows this to root@pam with a password only"
    case .tokenUnsupported: "Use user, realm and password for this; an API token can't do it"
    case .guestNotFound:
      "The guest doesn't exist on that node; it may have been migrated or removed"
    case .nodeNotFound:
      "Check the node's name; it is the one that the cluster's list of nodes shows"
    case .locked: "Wait until the backup, snapshot or migration that holds the lock ends"
    case .guestNotRunning: "Start the guest"
    case .notImplemented: "This version of PVE has no such call"
    case .tooLarge: "PVE takes 512 KiB in one request (64 KiB before April 2025)"
    case .nodeUnreachable:
      "Check that the nodes of the cluster reach each other and that the target node is up"
    case .portsExhausted:
      "PVE has 100 console ports per node; end consoles that nobody looks at, or open this one on another node"
    case .workerTimeout: "The node is busy or the guest doesn't answer; look at the task's log"
    case .connectFailed: "Check the host, its port (8006) and the way there"
    case .timedOut(.connect): "Check the host, its port (8006) and the way there"
    case .timedOut: "The node is slow or stuck; the call may still have run"
    case .connectionLost: "Whether the call ran is unknown; look before you repeat it"
    case .bodyTooLarge: "Raise maximumBody if the answer is meant to be so large"
    case .redirected:
      "Configure the API's own address; credentials are not carried along a redirect"
    case .malformedAnswer:
      "Check that the address is a Proxmox VE API and not something in front of it"
    case .tlsUntrusted(_, let seen?):
      "If that is the node's own certificate, trust it with this line of the configuration: fingerprint: \"\(seen)\""
    case .tlsUntrusted: "Check the host's certificate, or configure caFile or fingerprint"
    default: ""
    }
  }

  /// Takes secrets out of the texts, should a node have echoed one.
  func scrubbed(of secrets: [Secret]) -> PVEError {
    let words = secrets.map { $0.reveal() }.filter { $0.utf8.count >= 4 }
    guard !words.isEmpty else { return self }
    var copy = self
    for word in words {
      for form in Set([word, PercentEncoding.encode(word)]) {
        copy.message = copy.message.replacing(form, with: "‹secret›")
        copy.fields = copy.fields.mapValues { $0.replacing(form, with: "‹secret›") }
        copy.hint = copy.hint.replacing(form, with: "‹secret›")
        if case .redirected(let target?) = copy.kind {
          copy.kind = .redirected(to: target.replacing(form, with: "‹secret›"))
        }
      }
    }
    return copy
  }
}
