import ConsoleProtocol
import ProxmoxClient
import Testing

@testable import GuestExec

@Suite("The parts of the agent's transport")
struct AgentUnitTests {
  @Test("a stream's mark is found however the bytes are cut, and what only looks like it goes on")
  func mark() {
    let text = [UInt8]("abc sallyport-end-12 sallyport-end-123sallyport-end-1234")
    for size in 1...text.count {
      var mark = AgentMark("sallyport-end-1234")
      var got: [UInt8] = []
      for start in stride(from: 0, to: text.count, by: size) {
        got += mark.take(Array(text[start..<min(start + size, text.count)]))
      }
      #expect(got == [UInt8]("abc sallyport-end-12 sallyport-end-123"))
      #expect(mark.isOver && mark.heldBytes == 0)
      #expect(mark.take([1, 2]) == [])
    }
  }

  @Test("bytes are characters of their numbers, both ways; base64 is RFC 4648's")
  func text() {
    let all = (0...255).map { UInt8($0) }
    #expect(AgentText.bytes(AgentText.text(all)) == all)
    #expect(AgentText.text([0xC3, 0xA9]) == "Ã©")
    #expect(AgentText.bytes("€") == nil)
    for (bytes, text) in [
      ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="),
    ] {
      #expect(AgentText.base64([UInt8](bytes)) == text)
    }
  }

  @Test("a poll's first line is read, and what is none is not")
  func poll() throws {
    let b = AgentScripts.base
    let line =
      "sallyport /run/x 3 2 \(b + 7) \(b) \(b + 9) \(b + 10) 0 1 1 end cancel signal 15\nabc"
    let (poll, rest) = try #require(AgentPoll.read([UInt8](line)))
    #expect(poll.state == .ended(why: "cancel", how: "signal 15") && poll.out == 3 && poll.err == 2)
    #expect(poll.outStart == 7 && poll.consumed == 9 && poll.uploaded == 10 && poll.errBroken)
    #expect(rest == [UInt8]("abc"))
    #expect(AgentPoll.read([UInt8]("none\n"))?.poll.state == AgentPoll.State.none)
    for wrong in ["", "none", "sallyport /run/x 1 2\n", line.replacing("end", with: "what")] {
      #expect(AgentPoll.read([UInt8](wrong)) == nil)
    }
    #expect(AgentPoll.State.end(why: "-", how: "exit 7") == .exited(7))
    #expect(AgentPoll.State.end(why: "limit", how: "signal 15") == .timedOut)
    #expect(
      AgentPoll.State.end(why: "-", how: "exit")
        == .lost("The guest's note of its end can't be read."))
  }

  @Test("Windows guests: arguments as they are, cmd /c, PowerShell in UTF-16, and no for the rest")
  func windows() throws {
    let nine = PVEVersion(9, 2, 11)
    func words(_ request: ExecRequest, _ version: PVEVersion? = nil) throws -> [String] {
      try AgentPlainCommand(request, isWindows: true, version: version ?? nine).words
    }
    #expect(try words(ExecRequest(["a b.exe", "", "ü\""])) == ["a b.exe", "", "ü\""])
    #expect(try words(ExecRequest(.shell([UInt8]("dir C:\\")))) == ["cmd.exe", "/c", "dir C:\\"])
    let shell = try words(ExecRequest(PowerShell.command("echo é")))
    #expect(shell.suffix(2) == ["-EncodedCommand", "ZQBjAGgAbwAgAOkA"])
    var user = ExecRequest(["x"])
    user.user = "bob"
    #expect(throws: ExecFailure.self) { try words(user) }
    var terminal = ExecRequest(["x"])
    terminal.terminal = TerminalSize(columns: 80, rows: 24)
    #expect(throws: ExecFailure.self) { try words(terminal) }
    #expect(throws: ExecFailure.self) { try words(ExecRequest(.argv([[120], [0xFF]]))) }
    #expect(throws: ExecFailure.self) { try words(ExecRequest(["x", ""]), PVEVersion(7, 4, 20)) }
  }

  @Test("PVE 7 loses empty arguments at the end, so a shell carries them")
  func seven() throws {
    let words = try AgentPlainCommand(
      ExecRequest(["/bin/echo", "a b", ""]), isWindows: false, version: PVEVersion(7, 4, 20)
    ).words
    #expect(words == ["/bin/sh", "-c", "exec '/bin/echo' 'a b' ''"])
  }

  @Test("what an error of PVE's means, and that it repeats no argument")
  func trouble() throws {
    let place = Place(node: try #require(NodeName("pve1")), kind: .qemu(try #require(VMID(100))))
    func failure(_ message: String, _ kind: PVEError.Kind = .failed, status: Int = 500)
      -> ExecFailure
    {
      ExecFailure.agent(
        PVEError(kind: kind, status: status, message: message, method: .post, path: "/x"),
        place: place, version: PVEVersion(8, 4, 14), request: ExecRequest(["/bin/x", "hush-hush"]))
    }
    #expect(failure("QEMU guest agent is not running", .guestNotRunning).kind == .agentNotRunning)
    #expect(failure("VM 100 is not running", .guestNotRunning).kind == .guestNotRunning)
    #expect(failure("Agent error: Command guest-exec has been disabled").kind == .agentExecDisabled)
    #expect(
      failure("unable to connect to VM 100 qga socket - timeout after 51 retries").kind == .busy)
    #expect(
      failure("x", .forbidden(path: "/vms/100", privilege: nil)).remedy.contains("VM.Monitor"))
    #expect(!"\(failure("no hush-hush here"))".contains("hush"))
  }
}
