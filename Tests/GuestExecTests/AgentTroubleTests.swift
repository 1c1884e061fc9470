import ConsoleProtocol
import PVESimulator
import ProxmoxClient
import TestSupport
import Testing

@testable import GuestExec

@Suite("What goes wrong on the way to a guest's agent")
struct AgentTroubleTests {
  /// Why a command was not started.
  private func refusal(
    _ bed: AgentBed, _ argv: [String] = ["/bin/true"], vmid: Int = 100
  ) async throws -> ExecFailure {
    let id = try #require(VMID(vmid))
    let place = Place(node: .one, kind: .qemu(id))
    let verdict = await bed.transport.assess(ExecRequest(argv), on: place)
    do throws(ExecFailure) {
      _ = try await bed.transport.start(ExecRequest(argv), on: place)
    } catch {
      #expect(!error.remedy.isEmpty)
      guard case .impossible(let told) = verdict else {
        Issue.record("\(verdict) but \(error)")
        return error
      }
      #expect(told.kind == error.kind)
      return error
    }
    throw error("it was started")
  }

  private struct Wrong: Error { var text: String }
  private func error(_ text: String) -> Wrong { Wrong(text: text) }

  @Test("each reason has its own kind and remedy, and nothing is run to find it out")
  func kinds() async throws {
    _ = try await AgentBed.with { bed in
      let none = try await refusal(bed, vmid: 101)
      #expect(none.kind == .agentNotConfigured && none.remedy.contains("qm set 101 --agent 1"))
      #expect(try await refusal(bed, vmid: 102).kind == .guestNotRunning)
      #expect(try await refusal(bed, vmid: 999).kind == .targetNotFound)
      try await bed.pve.inject("agent=exec-disabled,vmid=100")
      let off = try await refusal(bed)
      #expect(off.kind == .agentExecDisabled && off.remedy.contains("qemu-ga"))
      #expect(bed.execCalls == 0)
    }
    _ = try await AgentBed.with(
      .ours, { $0.timings.agentPing = .milliseconds(300) }, guest: { $0.agentBackEnd = .absent }
    ) { bed in
      let absent = try await refusal(bed)
      #expect(absent.kind == .agentNotRunning && absent.remedy.contains("qemu-guest-agent"))
      #expect(bed.execCalls == 0)
    }
    let node = try #require(NodeName("pve1"))
    let id = try #require(VMID(200))
    _ = try await AgentBed.with { bed in
      guard
        case .impossible(let failure) = await bed.transport.assess(
          ExecRequest(["true"]), on: Place(node: node, kind: .lxc(id)))
      else {
        Issue.record("a container has no agent")
        return
      }
      #expect(failure.kind == .noTransport)
    }
  }

  @Test("a missing privilege is named as that version names it", arguments: [Era.v8_4, .v9_2])
  func privilege(_ era: Era) async throws {
    _ = try await AgentBed.with(AgentCase(backEnd: .builtIn, era: era)) { bed in
      let password = try #require(bed.pve.password(of: "auditor@pve"))
      let client = ProxmoxClient(
        ClusterConfiguration(
          name: "auditor", hosts: [APIHost(host: "127.0.0.1", port: bed.pve.port)],
          credential: .password(user: "auditor@pve", password: password, secondFactor: nil),
          tls: TLSPolicy(trust: .fingerprint(bed.pve.fingerprint))))
      defer { client.shutdown() }
      let other = AgentBed(pve: bed.pve, client: client, place: bed.place, options: bed.options)
      let failure = try await refusal(other)
      #expect(failure.kind == .permissionDenied)
      let name = era == .v8_4 ? "VM.Monitor" : "VM.GuestAgent.Unrestricted"
      #expect(failure.remedy.contains(name), "\(failure)")
      #expect(bed.execCalls == 0)
    }
  }

  @Test("a guest that was just started is waited for; one that never answers is told as booting")
  func booting() async throws {
    _ = try await AgentBed.with(
      .ours, { $0.timings.agentPing = .milliseconds(100) }, guest: { $0.uptime = 5 }
    ) { bed in
      try await bed.pve.inject("agent=booting,vmid=100,for=8s")
      guard
        case .possible(let why) = await bed.transport.assess(ExecRequest(["true"]), on: bed.place)
      else {
        Issue.record("a booting guest can be waited for")
        return
      }
      #expect(why.contains("waited for"), "\(why)")
      #expect(try await bed.run(["/bin/echo", "up"]).out == "up\n")
      try await bed.pve.inject("agent=booting,vmid=100")
      do throws(ExecFailure) {
        _ = try await bed.with { $0.bootWait = .seconds(1) }.start(ExecRequest(["true"]))
        Issue.record("it was started")
      } catch {
        #expect(error.kind == .agentBooting)
      }
    }
  }

  @Test(
    "a program that isn't there: not run in plain mode, 127 from the guest's shell in streaming")
  func noProgram() async throws {
    _ = try await AgentBed.with { bed in
      do throws(ExecFailure) {
        _ = try await bed.plain.start(ExecRequest(["/bin/nope-secret"]))
        Issue.record("it was started")
      } catch {
        #expect(error.kind == .startFailed && !"\(error)".contains("nope-secret"))
      }
      let ran = try await bed.streaming.run(["/bin/nope"])
      #expect(ran.end == .exited(127) && ran.err.contains("not found"))
    }
  }

  @Test(
    "an answer to the start that is lost: `lost` in plain mode, found in the guest in streaming; sent once",
    arguments: ["drop=answer", "status=596,message=Broken pipe,carried-out", "truncate=20"])
  func lostStart(_ fault: String) async throws {
    _ = try await AgentBed.with { bed in
      // What is known of the guest must not be asked in between.
      _ = try await bed.run(["/bin/true"])
      try await bed.pve.inject(
        Fault(stringLiteral: "\(fault),method=POST,path=/nodes/*/agent/exec,times=1"))
      let before = bed.execCalls
      let plain = try await bed.plain.run(["/bin/sleep", "0.1"])
      guard case .lost(let why) = plain.end else {
        Issue.record("\(String(describing: plain.end))")
        return
      }
      #expect(why.contains("not known"), "\(why)")
      let probes = bed.execCalls - before
      #expect(probes <= 2)
      try await bed.pve.inject(
        Fault(stringLiteral: "\(fault),method=POST,path=/nodes/*/agent/exec,times=1"))
      let ran = try await bed.streaming.run(.sh("echo once; exit 6"))
      #expect(ran.out == "once\n" && ran.end == .exited(6), "\(String(describing: ran.end))")
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test("a start that never got there is told as lost, with that there is no trace of it")
  func lostRequest() async throws {
    _ = try await AgentBed.with { bed in
      _ = try await bed.run(["/bin/true"])
      try await bed.pve.inject(
        "status=596,message=Broken pipe,method=POST,path=/nodes/*/agent/exec,times=1")
      let ran = try await bed.streaming.run(["/bin/true"])
      guard case .lost(let why) = ran.end else {
        Issue.record("\(String(describing: ran.end))")
        return
      }
      #expect(why.contains("596") && why.contains("no trace"))
    }
  }

  @Test(
    "answers about the end that are lost: lost in plain mode, read again in streaming",
    arguments: AgentCase.both)
  func lostStatus(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      _ = try await bed.run(["/bin/true"])
      try await bed.pve.inject("drop=answer,path=/nodes/*/agent/exec-status,times=2")
      let ran = try await bed.streaming.run(.sh("echo all; exit 5"))
      #expect(ran.out == "all\n" && ran.end == .exited(5))
      try await bed.pve.inject("drop=answer,path=/nodes/*/agent/exec-status,times=3")
      let plain = try await bed.plain.run(["/bin/echo", "gone"])
      guard case .lost(let why) = plain.end else {
        Issue.record("\(String(describing: plain.end))")
        return
      }
      #expect(why.contains("once only") && plain.stdout.isEmpty)
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test("a guest that reboots under a command: lost, in both modes", arguments: AgentCase.both)
  func reboot(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      for bed in [bed.plain, bed.streaming] {
        let process = try await bed.start(.sh("echo up; sleep 60"))
        try await Task.sleep(for: .milliseconds(300))
        await bed.pve.stopGuest(100)
        await bed.pve.startGuest(100)
        guard case .lost = await AgentBed.collect(process).end else {
          Issue.record("\(bed.options.mode)")
          continue
        }
      }
      let process = try await bed.streaming.start(.sh("echo up; sleep 60"))
      await bed.pve.stopGuest(100)
      guard case .lost(let why) = await AgentBed.collect(process).end else {
        Issue.record("stopped")
        return
      }
      #expect(why.contains("stopped"))
    }
  }

  @Test("an agent that is silent for a while is waited for; one that stays so is lost, with a note")
  func silent() async throws {
    _ = try await AgentBed.with(.ours, { $0.timings.agentPing = .seconds(2) }) { bed in
      let process = try await bed.streaming.start(.sh("echo a; sleep 8; echo b; exit 2"))
      #expect(await AgentBed.output(process) == "a\n")
      try await bed.pve.inject("agent=silent,vmid=100,for=3s")
      let ran = await AgentBed.collect(process)
      #expect(ran.out == "b\n" && ran.end == .exited(2))

      let other = try await bed.with { $0.patience = .seconds(2) }.streaming.start(
        .sh("echo a; sleep 60"))
      #expect(await AgentBed.output(other) == "a\n")
      let id = try await bed.pve.inject("agent=silent,vmid=100")
      let lost = await AgentBed.collect(other)
      guard case .lost(let why) = lost.end else {
        Issue.record("\(String(describing: lost.end))")
        return
      }
      #expect(why.contains("may still run") && !lost.notes.isEmpty)
      _ = id
    }
  }

  @Test(
    "taken up by another process of ours: output goes on where it was kept",
    arguments: AgentCase.both)
  func attach(_ which: AgentCase) async throws {
    _ = try await AgentBed.with(which) { bed in
      let wanted = (1...600).map { "line \($0)\n" }.joined()
      let request = ExecRequest.sh(
        "i=1; while [ $i -le 600 ]; do echo line $i; echo x >&2; i=$((i+1)); [ $((i % 20)) -gt 0 ] || sleep 0.05; done; exit 11"
      )
      let first = try await bed.streaming.start(request)
      var kept = [UInt8]()
      var errors = 0
      while kept.count < 200, let event = await first.next() {
        if case .stdout(let bytes) = event { kept += bytes }
        if case .stderr(let bytes) = event { errors += bytes.count }
      }
      let handle = try #require(first.handle)
      // As after a kill -9: nothing is said to the guest, and another transport knows the handle alone.
      await first.detach()
      let second = await bed.transport.attach(
        handle, from: ExecPosition(stdout: kept.count, stderr: errors))
      let ran = await AgentBed.collect(second)
      #expect(kept + ran.stdout == [UInt8](wanted))
      #expect(errors + ran.stderr.count == 1200, "\(errors) \(ran.stderr.count) \(ran.notes)")
      #expect(ran.end == .exited(11))
      // When everything was read nothing is left to take up.
      #expect(try await bed.leftovers() == "")
      guard
        case .lost = await AgentBed.collect(
          await bed.transport.attach(handle, from: ExecPosition())
        ).end
      else {
        Issue.record("it was taken up")
        return
      }
      let plain = try await bed.plain.start(.sh("sleep 0.5; echo later; exit 3"))
      let plainHandle = try #require(plain.handle)
      await plain.detach()
      let again = await AgentBed.collect(
        await bed.transport.attach(plainHandle, from: ExecPosition(stdout: 2)))
      #expect(again.out == "ter\n" && again.end == .exited(3))
      #expect(try await bed.leftovers() == "")
    }
  }

  @Test("input goes on after a restart where the guest has it")
  func attachInput() async throws {
    _ = try await AgentBed.with { bed in
      var request = ExecRequest(["/bin/cat"])
      request.hasInput = true
      let bytes = [UInt8].pattern(200_000)
      let first = try await bed.streaming.start(request)
      let reader = Task { await AgentBed.collect(first).stdout.count }
      try await first.write(Array(bytes[..<150_000]))
      await first.detach()
      reader.cancel()
      let handle = try #require(first.handle)
      // More was written than was noted: those bytes are given a second time, and must not arrive twice.
      let second = await bed.transport.attach(handle, from: ExecPosition(stdin: 60_000))
      async let ran = AgentBed.collect(second)
      try await Task.sleep(for: .milliseconds(500))
      try await second.write(Array(bytes[60_000...]))
      await second.closeInput()
      let result = await ran
      let isSame = result.stdout == bytes
      #expect(isSame && result.end == .exited(0), "\(result.stdout.count)")
    }
  }

  @Test("endless output waits for its reader: the guest's disk stays as it is")
  func bound() async throws {
    _ = try await AgentBed.with { bed in
      let process = try await bed.streaming.start(.sh("exec yes sallyport"))
      _ = await process.next()
      try await Task.sleep(for: .seconds(1))
      let size = try await bed.plain.run(
        .sh("du -sk /run/sallyport-* /var/tmp/sallyport-* /tmp/sallyport-* 2>/dev/null | cut -f1"))
      let kibibytes = size.out.split(separator: "\n").compactMap { Int($0) }.reduce(0, +)
      #expect(kibibytes > 0 && kibibytes <= 5 * 4096 + 64, "\(kibibytes) KiB")
      await process.cancel()
      let end = await AgentBed.collect(process).end
      #expect(end == .cancelled, "\(String(describing: end))")
      #expect(try await bed.leftovers() == "")
    }
  }
}
