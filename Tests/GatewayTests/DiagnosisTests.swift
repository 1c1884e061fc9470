import ConsoleDial
import ConsoleProtocol
import EventLoop

import Testing

@testable import Gateway
@testable import ProxmoxClient

@Suite("Why a console ended")
struct DiagnosisTests {
  private func diagnosis(
    _ failure: UpstreamFailure, console: Console = .terminal, log: [String] = [],
    exit: String? = "OK", kind: Place.Kind? = nil
  ) throws -> Diagnosis {
    let node = try #require(NodeName("pve1"))
    let vmid = try #require(VMID(100))
    var out = Diagnosis(
      failure: failure, console: console, place: Place(node: node, kind: kind ?? .qemu(vmid)))
    out.host = "192.0.2.1:8006"
    out.log = log
    out.task = TaskStatus(isRunning: exit == nil, exitStatus: exit)
    return out
  }

  @Test(
    "the worker's own words decide",
    arguments: [
      ("authentication request failed: error", Ending.Kind.ticketRejected),
      ("failed reading ticket: timed out", .ticketRejected),
      ("connection timed out", .workerTimeout),
      ("failed waiting for client: timed out", .workerTimeout),
      ("unable to find a serial interface", .noSerialPort),
      ("VM 100 not running", .guestNotRunning),
      ("Host key verification failed.", .nodeUnreachable), ("something else", .workerExited),
    ])
  func logs(line: String, kind: Ending.Kind) throws {
    let ending = try diagnosis(.console(.closedBeforeGreeting), log: [line], exit: "failed").ending
    #expect(ending.kind == kind)
    #expect(ending.details.contains(line))
  }

  @Test("a line about a time-out in an open console's log does not make it a time-out")
  func openLog() throws {
    let ending = try diagnosis(.endedOpen(.endOfStream), log: ["connection timed out"]).ending
    #expect(ending.kind == .workerExited)
  }

  @Test("a guest that is down explains whatever was seen")
  func guestDown() throws {
    for failure in [
      UpstreamFailure.console(.closedBeforeGreeting), .silent(stage: "login"),
      .console(.notRFB([1])),
    ] {
      var it = try diagnosis(failure)
      it.guest = GuestStatus(
        status: "stopped", qmpStatus: nil, lock: nil, name: nil, uptime: nil, hasSerial: false,
        hasAgent: false, all: .null)
      #expect(it.ending.kind == .guestNotRunning)
      it.failure = .endedOpen(.endOfStream)
      #expect(it.ending.kind == .guestStopped)
    }
  }

  @Test("a guest that moved is said to have moved")
  func moved() throws {
    var it = try diagnosis(.endedOpen(.endOfStream))
    it.nodeNow = NodeName("pve2")
    #expect(it.ending.sentence.contains("pve2"))
  }

  @Test("connections that failed say what is in the way")
  func connections() throws {
    #expect(
      try diagnosis(.notConnected(.connectFailed("refused"))).ending.kind == .apiUnreachable)
    #expect(try diagnosis(.notConnected(.connectTimedOut)).ending.kind == .apiUnreachable)
    #expect(try diagnosis(.notConnected(.tlsFailed("alert"))).ending.kind == .apiUnreachable)
    #expect(try diagnosis(.silent(stage: "upgrade")).ending.kind == .workerTimeout)
    #expect(try diagnosis(.silent(stage: "connect")).ending.kind == .apiUnreachable)
  }

  @Test("an untrusted certificate shows both fingerprints and the line that would trust it")
  func untrusted() throws {
    let expected = try #require(Fingerprint(bytes: [UInt8](repeating: 1, count: 32)))
    let seen = try #require(Fingerprint(bytes: [UInt8](repeating: 2, count: 32)))
    let ending = Diagnosis.untrusted(
      expected: expected, seen: seen, reason: "another certificate", host: "pve1:8006")
    #expect(ending.kind == .tlsUntrusted)
    #expect(ending.details == ["expected: \(expected)", "seen: \(seen)"])
    #expect(ending.remedy.contains("tls: {fingerprint: \"\(seen)\"}"))
  }

  @Test("a refused upgrade is not blamed on the guest")
  func refused() throws {
    var it = try diagnosis(
      .console(.upgradeRefused(status: 403, reason: "Permission check failed", body: "")))
    it.guestIsGone = true
    #expect(it.isCertain)
    #expect(it.ending.kind == .permissionDenied)
  }

  @Test("log lines lose tickets, passwords and control characters")
  func scrubbing() throws {
    let node = try #require(NodeName("pve1"))
    let plan = UpstreamPlan(
      host: "h", port: 8006, tls: nil, requestTarget: Secret("/"),
      credentialHeader: ("Cookie", Secret("PVEAuthCookie=abc")),
      login: .rfb(password: Secret("p4ssw0rd")), maximumFrame: 32768, upid: "UPID:x", node: node)
    let scrubber = Scrubber(plan)
    #expect(scrubber.line("got PVEVNC:65:: here") == "got ‹secret› here")
    #expect(scrubber.line("password p4ssw0rd used") == "password ‹secret› used")
    #expect(scrubber.line("a\u{1B}[31mred\r\n\u{9B}x") == "a [31mred x")
    #expect(scrubber.line(String(repeating: "x", count: 5000)).count == 240)
  }
}
