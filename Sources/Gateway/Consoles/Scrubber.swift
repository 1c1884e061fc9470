import ConsoleProtocol

/// Makes lines of PVE's logs fit to be shown: no tickets, no passwords of this console, no control characters, no novels.
struct Scrubber: Sendable {
  private let secrets: [Secret]
  private static let marks = ["PVE:", "PVEVNC:", "PVETUNNEL:", "PVEAPIToken=", "PVEAuthCookie="]

  /// Knows the secrets of a plan.
  init(_ plan: UpstreamPlan?) {
    guard let plan else {
      secrets = []
      return
    }
    var all = [plan.credentialHeader.value]
    switch plan.login {
    case .rfb(let password): all.append(password)
    case .termproxy(let line): all.append(Secret(line.reveal().filter { !$0.isNewline }))
    case .none: break
    }
    secrets = all
  }

  /// A line, cleaned and cut to 240 characters.
  func line(_ text: String) -> String {
    var out = ""
    for scalar in text.unicodeScalars.prefix(4096) {
      // C0, DEL and C1: none of them may reach a terminal or a log.
      if scalar.value < 32 || (127..<160).contains(scalar.value) {
        if !out.hasSuffix(" ") { out += " " }
      } else {
        out.unicodeScalars.append(scalar)
      }
    }
    for secret in secrets where secret.reveal().utf8.count >= 4 {
      out = out.replacing(secret.reveal(), with: "‹secret›")
    }
    out = out.split(separator: " ", omittingEmptySubsequences: false).map { word in
      Self.marks.contains { word.contains($0) } ? "‹secret›" : String(word)
    }.joined(separator: " ")
    return out.count > 240 ? out.prefix(239) + "…" : out
  }

  /// The lines of a task's log that say something.
  func log(_ lines: [String]) -> [String] {
    lines.map { line($0) }.filter { !$0.isEmpty && $0 != "no content" && $0 != "TASK OK" }
  }
}
