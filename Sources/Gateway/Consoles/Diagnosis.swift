import ConsoleDial
import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// Why a console ended, worked out of what the leg saw and what PVE tells afterwards. A function of values: asking PVE
/// is ``ConsoleBroker``'s part.
struct Diagnosis: Sendable {
  /// What the leg saw.
  var failure: UpstreamFailure
  /// Which console.
  var console: Console
  /// Where it was thought to be, once that was known.
  var place: Place?
  /// The API host, for sentences.
  var host = ""
  /// What PVE said about the guest; nil where it was not asked or did not say.
  var guest: GuestStatus?
  /// PVE says that the guest does not exist there.
  var guestIsGone = false
  /// The node on which the guest is now.
  var nodeNow: NodeName?
  /// How the worker task stands.
  var task: TaskStatus?
  /// The end of the worker's log, oldest line first.
  var log: [String] = []
  /// Set if PVE could not be asked at all.
  var apiError: PVEError?

  /// Whether nothing that PVE could say would change the answer.
  var isCertain: Bool {
    switch failure {
    case .notConnected: true
    case .console(.upgradeRefused(let status, _, _)): status == 401 || status == 403
    default: false
    }
  }

  /// The answer.
  var ending: Ending {
    if let certain = connection { return certain }
    if isCertain { return base }
    if let told = guestState ?? logText { return told }
    var ending = base
    if let status = task?.exitStatus, status != "OK", !task.map(\.isRunning).isTrue {
      ending.details.append("task: \(status)")
    }
    ending.details = (ending.details + log).suffix(12)
    return ending
  }

  private var wasOpen: Bool {
    switch failure {
    case .endedOpen, .console(.ended), .console(.closedEarly(.open)): true
    default: false
    }
  }

  private var what: String { place.map { "\($0)" } ?? "The console" }

  // MARK: The way to the API host

  /// What the connection's own end says for sure.
  private var connection: Ending? {
    guard case .notConnected(let end) = failure else { return nil }
    switch end {
    case .tlsUntrusted(let mismatch):
      return Self.untrusted(
        expected: mismatch.expected, seen: mismatch.seen, reason: mismatch.reason, host: host)
    case .tlsFailed(let reason):
      return Ending(
        hop: .api, kind: .apiUnreachable,
        sentence: "The TLS handshake with the API host \(host) failed: \(reason).",
        remedy: "Check that the port is pveproxy's (8006) and that it speaks TLS 1.2 or later.")
    case .connectTimedOut:
      return Ending(
        hop: .api, kind: .apiUnreachable,
        sentence: "The API host \(host) did not answer the connection.",
        remedy: "Check the host, and firewalls on the way to it.")
    case .connectFailed(let reason), .failed(let reason):
      return Ending(
        hop: .api, kind: .apiUnreachable,
        sentence: "The API host \(host) can't be reached: \(reason).",
        remedy: "Check that the host is up and that pveproxy runs on it.")
    case .endOfStream, .closedByUs:
      return Ending(
        hop: .api, kind: .apiUnreachable,
        sentence: "The API host \(host) closed the connection at once.",
        remedy: "Check that pveproxy runs and that its ALLOW_FROM lets this machine in.")
    }
  }

  /// A certificate that isn't the one wanted, with what to write where if it is right after all.
  static func untrusted(
    expected: Fingerprint?, seen: Fingerprint?, reason: String, host: String
  ) -> Ending {
    var details: [String] = []
    if let expected { details.append("expected: \(expected)") }
    if let seen { details.append("seen: \(seen)") }
    var remedy = "Check the host's certificate, or configure tls.caFile or tls.fingerprint."
    if let seen {
      remedy =
        "If that is the node's own certificate, trust it in the cluster's configuration: "
        + "tls: {fingerprint: \"\(seen)\"}"
    }
    return Ending(
      hop: .api, kind: .tlsUntrusted,
      sentence: "The API host \(host) showed a certificate that is not trusted: \(reason).",
      remedy: remedy, details: details)
  }

  // MARK: The guest

  private var guestState: Ending? {
    if guestIsGone {
      return Ending(
        hop: .guest, kind: .guestNotFound, sentence: "\(what) no longer exists on its node.",
        remedy: "It was removed or migrated; look at the inventory.", details: log)
    }
    if let nodeNow, let place, nodeNow != place.node {
      return Ending(
        hop: .guest, kind: .workerExited,
        sentence: "\(what) moved from node \(place.node) to \(nodeNow).",
        remedy: "Open the console again; it will be opened on the new node.", details: log)
    }
    if let guest, !guest.isRunning {
      return wasOpen
        ? Ending(
          hop: .guest, kind: .guestStopped, sentence: "\(what) was shut down.",
          remedy: "Start it to open its console again.", details: log)
        : Self.notRunning(what, status: guest.status, details: log)
    }
    return nil
  }

  /// The guest has to run and doesn't.
  static func notRunning(_ what: String, status: String, details: [String] = []) -> Ending {
    Ending(
      hop: .guest, kind: .guestNotRunning, sentence: "\(what) is not running (it is \(status)).",
      remedy: "Start it, then open the console again.", details: details)
  }

  /// The VM lacks the port that the console is for.
  static func noSerial(_ what: String, console: Console, has ports: [Int]) -> Ending {
    let wanted = console == .terminal ? "no serial port" : "no \(console)"
    let other =
      ports.isEmpty ? "" : " It has: \(ports.map { "serial\($0)" }.joined(separator: ", "))."
    return Ending(
      hop: .guest, kind: .noSerialPort, sentence: "\(what) has \(wanted) for a terminal.\(other)",
      remedy:
        "Add one (Hardware, Add, Serial Port; or `qm set VMID -serial0 socket`), restart the VM, and run a login "
        + "on it; or open the screen (vnc).")
  }

  // MARK: The worker's log

  /// Known words of PVE's workers.
  private var logText: Ending? {
    let text = (log + [task?.exitStatus ?? ""]).joined(separator: "\n").lowercased()
    func says(_ words: String) -> Bool { text.contains(words) }
    if says("unable to find a serial interface") || says("no serial interface") {
      var ending = Self.noSerial(what, console: console, has: [])
      ending.details = log
      return ending
    }
    if says("authentication request failed") || says("failed reading ticket") {
      return Ending(
        hop: .worker, kind: .ticketRejected,
        sentence: "The terminal's worker did not accept the ticket.",
        remedy:
          "Check that the clocks of the nodes agree; before PVE 9.1.9 (8.4.19) API tokens open no guest terminals.",
        details: log)
    }
    if !wasOpen, says("connection timed out") || says("failed waiting for client") {
      return Ending(
        hop: .worker, kind: .workerTimeout,
        sentence: "The console's worker waited ten seconds for the connection and gave up.",
        remedy:
          "Open the console again. If it happens often, the API host is overloaded or far away.",
        details: log)
    }
    if says("host key verification failed") || says("permission denied (publickey")
      || says("no route to host")
    {
      return Ending(
        hop: .worker, kind: .nodeUnreachable,
        sentence: "The API host could not reach the guest's node by ssh.",
        remedy:
          "Run `pvecm updatecerts` on the nodes, or name the guest's own node among the hosts.",
        details: log)
    }
    if !wasOpen, says("not running") {
      return Self.notRunning(what, status: "stopped", details: log)
    }
    return nil
  }

  // MARK: What remains

  private var base: Ending {
    switch failure {
    case .notConnected: return Ending(hop: .api, kind: .apiUnreachable, sentence: "No connection.")
    case .console(.ended): return closed
    case .console(let failure): return failure.ending
    case .silent(let stage): return silence(stage)
    case .endedOpen(.failed(let reason)), .endedOpen(.tlsFailed(let reason)):
      return Ending(
        hop: .api, kind: .apiUnreachable,
        sentence: "The connection to the API host \(host) broke: \(reason).",
        remedy: "Open the console again.")
    case .endedOpen: return closed
    }
  }

  /// An open console's connection ended and PVE says neither why nor that the guest stopped.
  private var closed: Ending {
    if let apiError {
      return Ending(
        hop: .api, kind: .apiUnreachable,
        sentence: "The connection to the API host \(host) ended, and it does not answer any more.",
        remedy: "Check the host; \(apiError.ending.sentence)")
    }
    if task.map(\.isRunning).isTrue {
      return Ending(
        hop: .api, kind: .apiUnreachable,
        sentence: "The API host \(host) closed the connection while the console still ran.",
        remedy: "Open the console again; pveproxy may have been restarted.")
    }
    let failed = task.map { !$0.succeeded }.isTrue
    let sentence =
      switch (place?.kind, console.isTerminal) {
      case (.node?, true): "The shell on the node ended."
      case (_, true): "The terminal's worker ended."
      default: "The screen's worker ended."
      }
    return Ending(
      hop: .worker, kind: .workerExited,
      sentence: failed ? String(sentence.dropLast()) + " with an error." : sentence,
      remedy: "Open the console again.")
  }

  private func silence(_ stage: String) -> Ending {
    switch stage {
    case "connect":
      Ending(
        hop: .api, kind: .apiUnreachable,
        sentence: "The API host \(host) did not answer the connection.",
        remedy: "Check the host, and firewalls on the way to it.")
    case "upgrade":
      // With the EV loop pveproxy never answers when the console's port has nobody behind it.
      Ending(
        hop: .worker, kind: .workerTimeout,
        sentence:
          "The API host \(host) accepted the connection and never answered: the console's worker was gone.",
        remedy: "Open the console again.")
    default:
      Ending(
        hop: .worker, kind: .workerTimeout,
        sentence: "The console's worker did not finish the login in time.",
        remedy: "Open the console again. If it happens again, look at the task's log on the node.")
    }
  }
}

extension Bool? {
  fileprivate var isTrue: Bool { self == true }
}
