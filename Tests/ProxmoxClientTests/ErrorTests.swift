import ConsoleProtocol
import Testing

@testable import ProxmoxClient

@Suite("What PVE refuses")
struct ErrorTests {
  @Test(
    "recorded refusals get their kinds, with a body and by the reason phrase alone",
    arguments: [
      ("no-credential", .unauthenticated), ("bad-token", .unauthenticated),
      ("csrf-missing", .unauthenticated), ("login-refused", .unauthenticated),
      ("login-without-password", .badParameters), ("bad-vmid", .badParameters),
      ("bad-serial", .badParameters), ("missing-guest", .guestNotFound),
      ("missing-container", .guestNotFound), ("unknown-node", .nodeNotFound),
      ("unknown-path", .notImplemented), ("body-too-large", .tooLarge),
      ("node-vncshell-by-token", .tokenUnsupported), ("broken-json", .failed),
      ("console-without-privilege", .forbidden(path: "/vms/100", privilege: "VM.Console")),
      ("shell-without-privilege", .forbidden(path: "/nodes/pve1", privilege: "Sys.Console")),
      ("tunnel-without-privilege", .forbidden(path: "/vms/150", privilege: "VM.Allocate")),
      ("execute-by-token", .forbidden(path: nil, privilege: nil)),
    ] as [(String, PVEError.Kind)])
  func recorded(_ name: String, _ kind: PVEError.Kind) {
    let fixture = Fixture(name)
    #expect(fixture.error().kind == kind)
    #expect(fixture.error(withBody: false).kind == kind)
    #expect(fixture.error().status == fixture.status)
    #expect(!fixture.error().message.isEmpty && !fixture.error().message.contains("\n"))
  }

  @Test("what is wrong with which parameter is told by its name")
  func fields() {
    let error = Fixture("login-without-password").error()
    #expect(error.fields == ["password": "property is missing and it is not optional"])
    #expect(error.description.contains("password: property is missing"))
  }

  private func error(_ status: Int, _ reason: String, _ body: String = "") -> PVEError {
    PVEError(
      status: status, reason: reason, headers: [], body: Array(body.utf8), method: .post,
      path: "/x",
      host: "h:1")
  }

  @Test(
    "statuses and texts that no recording has",
    arguments: [
      (595, "Connection refused", .nodeUnreachable), (596, "Broken pipe", .nodeUnreachable),
      (597, "", .nodeUnreachable), (599, "Too many redirections", .nodeUnreachable),
      (500, "VM is locked (backup)", .locked), (500, "CT is locked (snapshot-delete)", .locked),
      (500, "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout", .locked),
      (500, "unable to find free port (5900-6000)", .portsExhausted),
      (500, "Timeout while waiting for port '5900' to get ready!", .workerTimeout),
      (500, "VM 100 not running", .guestNotRunning), (500, "something else", .failed),
      (
        403,
        "Permission check failed (URI '/access/ticket' not available with API token, need proper ticket. )",
        .tokenUnsupported
      ),
      (
        403, "Permission check failed (/vms/1, VM.Audit|VM.Console)",
        .forbidden(path: "/vms/1", privilege: "VM.Audit|VM.Console")
      ),
      (403, "Permission check failed", .forbidden(path: nil, privilege: nil)),
      (403, ")(", .forbidden(path: nil, privilege: nil)),
      (501, "for data too large", .tooLarge), (418, "teapot", .refused),
      (413, "too large", .tooLarge),
      (100, "", .failed), (0, "", .failed),
    ] as [(Int, String, PVEError.Kind)])
  func others(_ status: Int, _ reason: String, _ kind: PVEError.Kind) {
    #expect(error(status, reason).kind == kind)
  }

  @Test("the body's message goes before the reason phrase, and a page of HTML is no message")
  func messages() {
    #expect(
      error(500, "short", #"{"data":null,"message":"long\nand longer\n"}"#).message
        == "long and longer")
    #expect(error(502, "Bad Gateway", "<html>x</html>").message == "Bad Gateway")
    #expect(error(502, "", "<html>x</html>").message == "no reason given")
    #expect(error(500, "", "plain words\n").message == "plain words")
  }

  @Test("every error is a console's ending with a sentence")
  func endings() {
    let ending = Fixture("console-without-privilege").error().ending
    #expect(ending.kind == .permissionDenied)
    #expect(ending.remedy.contains("VM.Console on /vms/100"))
    #expect(ending.sentence.hasSuffix("."))
    #expect(error(595, "Connection refused").ending.kind == .nodeUnreachable)
    #expect(error(500, "unable to find free port (5900-6000)").ending.kind == .portsExhausted)
  }

  @Test("a secret that a node echoes is cut out")
  func scrubbed() {
    let e = error(400, "value 'hunter2+x' is bad", #"{"errors":{"password":"got 'hunter2+x'"}}"#)
      .scrubbed(of: [Secret("hunter2+x"), Secret("abc")])
    #expect(!e.description.contains("hunter2"))
    #expect(e.fields["password"] == "got '‹secret›'")
  }
}
