/// What OpenSSH's client says, as failures with a remedy. The words are those of OpenSSH 8 and 9 (`sshconnect.c`,
/// `sshconnect2.c`, `packet.c`, `kex.c`).
enum SSHRefusal {
  /// - Parameters:
  ///   - log: what ssh wrote into its log.
  ///   - host: `user@address`, port included, for sentences.
  static func failure(log: String, host: String, end: Child.End?) -> ExecFailure {
    func has(_ words: String...) -> Bool { words.contains { log.contains($0) } }
    let line = PctText.lastLine(log)
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED", "host key for", "Host key for")
      && has("changed", "CHANGED")
    {
      return ExecFailure(
        .loginFailed, "The host key of \(host) is another one than expected.",
        remedy:
          "If the node was reinstalled, put its new key into the known hosts; otherwise somebody is in between."
      )
    }
    if has("Host key verification failed", "host key is known for", "No matching host key") {
      return ExecFailure(
        .loginFailed, "The host key of \(host) is not known.",
        remedy:
          "Add it to the known hosts (ssh-keyscan shows it; compare it on the node), or pin it as 'hostKeys'."
      )
    }
    if has("Permission denied") {
      let unreadable = has("UNPROTECTED PRIVATE KEY FILE", "bad permissions")
      return ExecFailure(
        .loginFailed,
        unreadable
          ? "OpenSSH refuses the key file for \(host): others may read it."
          : "\(host) refused the key.",
        remedy: unreadable
          ? "chmod 600 it." : "Put the public key into that user's ~/.ssh/authorized_keys.")
    }
    if has("Too many authentication failures") {
      return ExecFailure(
        .loginFailed, "\(host) refused too many keys.", remedy: "Name one key as 'identityFile'.")
    }
    if has("Could not resolve hostname", "Name or service not known") {
      return ExecFailure(
        .unreachable, "The name of \(host) is not known here.",
        remedy: "Give the node's address under 'hosts'.")
    }
    if has("Connection refused") {
      return ExecFailure(
        .unreachable, "Nothing listens at \(host).",
        remedy: "Is sshd running there, and the port right?")
    }
    if end == nil || has("timed out", "Operation timed out", "banner exchange") {
      return ExecFailure(
        .unreachable, "\(host) did not answer in time.",
        remedy: "Is the node up, and does a firewall let port and address pass?")
    }
    if has("Session open refused", "administratively prohibited") {
      return ExecFailure(
        .busy, "\(host) allows no further session.",
        remedy: "Lower 'maximumPerNode', or raise MaxSessions in the node's sshd_config.")
    }
    if has("kex_exchange_identification", "Connection closed by", "Connection reset by") {
      return ExecFailure(
        .unreachable,
        "\(host) closed the connection before the login\(line.isEmpty ? "." : ": \(line)")",
        remedy: "It may refuse connections for now (MaxStartups, fail2ban).")
    }
    return ExecFailure(
      .unreachable, "OpenSSH could not connect to \(host)\(line.isEmpty ? "." : ": \(line)")")
  }

  /// One sentence for a connection that broke.
  static func broken(log: String, host: String, end: Child.End) -> String {
    let line = PctText.lastLine(log)
    return
      "The connection to \(host) broke\(line.isEmpty ? " (ssh: \(PctText.words(end)))." : ": \(line).")"
  }
}
