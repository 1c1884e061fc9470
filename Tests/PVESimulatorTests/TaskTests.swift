import Testing

@testable import PVESimulator

@Suite("Tasks")
struct TaskTests {
  @Test("a UPID has PVE's form, is found by it, and says how the task ended")
  func upid() async throws {
    try await withQuickNode { pve in
      let upid =
        await pve.perform("POST", "\(vm102)/status/start", as: "root@pam!sallyport").data.asText
        ?? ""
      let parts = try #require(UPIDParts(upid))
      #expect(parts.node == "pve1")
      #expect(parts.type == "qmstart")
      #expect(parts.id == "102")
      #expect(parts.user == "root@pam!sallyport")
      #expect(await pve.ending(upid) == "OK")
      let path = "/nodes/pve1/tasks/\(upid)"
      let status = await pve.perform("GET", "\(path)/status").data
      #expect(status["status"] == "stopped")
      #expect(status["exitstatus"] == "OK")
      #expect(status["user"] == "root@pam")
      #expect(status["tokenid"] == "sallyport")
      let log = await pve.perform("GET", "\(path)/log")
      #expect(log.data == [["n": 1, "t": "TASK OK"]])
      #expect(log.total == 1)
      let unknown = path.replacing(":qmstart:", with: ":qmstop:")
      #expect(await pve.perform("GET", "\(unknown)/status").fields["upid"] == "no such task")
      #expect(
        await pve.perform("GET", "\(unknown)/log").data.items.first?["t"]
          == "unable to open file - No such file or directory")
      #expect(
        await pve.perform("GET", "/nodes/pve1/tasks/UPID:x/status").fields["upid"]?.hasPrefix(
          "unable to parse worker upid") == true)
    }
  }

  @Test("the list: what runs and what ended, filtered and in pages")
  func list() async throws {
    try await withNode({ $0.timings.task = .milliseconds(1500) }) { pve in
      let path = "/nodes/pve1/tasks"
      _ = await pve.task("POST", "\(vm102)/status/start")
      _ = await pve.task("POST", "\(vm102)/status/start")
      let slow = await pve.perform("POST", "\(vm100)/status/reset").data.asText ?? ""
      let active = await pve.perform("GET", path, ["source": "active"])
      #expect(active.data.items.map { $0["upid"]?.asText } == [slow])
      #expect(active.data.items.first?["status"] == "RUNNING")
      #expect(active.data.items.first?["endtime"] == nil)
      #expect(await pve.perform("GET", path).data.items.count == 2)
      #expect(await pve.perform("GET", path, ["source": "all"]).data.items.count == 3)
      #expect(await pve.ending(slow) == "OK")
      let errors = await pve.perform("GET", path, ["errors": "1"])
      #expect(errors.data.items.map { $0["status"]?.asText } == ["VM 102 already running"])
      #expect(await pve.perform("GET", path, ["statusfilter": "ok"]).data.items.count == 2)
      #expect(await pve.perform("GET", path, ["typefilter": "qmreset"]).data.items.count == 1)
      #expect(await pve.perform("GET", path, ["vmid": "100"]).data.items.count == 1)
      #expect(await pve.perform("GET", path, ["userfilter": "ROOT"]).data.items.count == 3)
      #expect(await pve.perform("GET", path, ["userfilter": "alice"]).data == [])
      let page = await pve.perform("GET", path, ["start": "1", "limit": "1"])
      #expect(page.total == 3)
      #expect(page.data.items.map { $0["status"]?.asText } == ["VM 102 already running"])
      let now = pve.clock.now
      #expect(await pve.perform("GET", path, ["since": String(now + 100)]).data == [])
      #expect(await pve.perform("GET", path, ["until": String(now + 100)]).data.items.count == 3)
    }
  }

  @Test("a log is read in pages; a limit of 0 is all of it")
  func pages() async throws {
    try await withQuickNode { pve in
      let upid = await pve.perform("POST", "\(vm102)/clone", ["newid": "950"]).data.asText ?? ""
      #expect(await pve.ending(upid) == "OK")
      let path = "/nodes/pve1/tasks/\(upid)/log"
      let all = await pve.perform("GET", path, ["limit": "0"])
      #expect(all.total == all.data.items.count)
      #expect((all.total ?? 0) > 5)
      let page = await pve.perform("GET", path, ["start": "1", "limit": "2"]).data.items
      #expect(page.map { $0["n"] } == [2, 3])
      #expect(page.first == all.data.items.dropFirst().first)
    }
  }

  @Test("users see their own tasks and their tokens', tokens only their own")
  func visibility() async throws {
    try await withQuickNode({
      $0.users.append(
        SimulatedUser(
          "op@pve", roles: ["/vms": "PVEVMUser"], tokens: ["mine": .init(), "other": .init()]))
    }) { pve in
      let mine =
        await pve.perform("POST", "\(vm102)/status/start", as: "op@pve!mine").data.asText ?? ""
      _ = await pve.ending(mine)
      let roots = await pve.perform("POST", "\(vm100)/status/reset").data.asText ?? ""
      _ = await pve.ending(roots)
      for (who, count) in [
        ("op@pve", 1), ("op@pve!mine", 1), ("op@pve!other", 0), ("auditor@pve", 2),
      ] {
        #expect(
          await pve.perform("GET", "/nodes/pve1/tasks", as: who).data.items.count == count, "\(who)"
        )
      }
      #expect(await pve.perform("GET", "/nodes/pve1/tasks/\(mine)/log", as: "op@pve").status == 200)
      #expect(
        await pve.perform("GET", "/nodes/pve1/tasks/\(mine)/log", as: "op@pve!other").message
          == "Permission check failed (/nodes/pve1, Sys.Audit)")
      #expect(
        await pve.perform("DELETE", "/nodes/pve1/tasks/\(roots)", as: "auditor@pve").message
          == "Permission check failed (/nodes/pve1, Sys.Modify)")
      #expect(await pve.perform("GET", "/cluster/tasks", as: "op@pve").data.items.count == 1)
      let all = await pve.perform("GET", "/cluster/tasks").data.items
      #expect(all.count == 2)
      #expect(all.first?["saved"] == "1")
    }
  }

  @Test("a task that is stopped ends once, and its undoing happens before")
  func stop() async throws {
    try await withQuickNode { pve in
      let (upid, undone) = await pve.onCluster(or: ("", 0)) { cluster -> (String, Int) in
        guard let node = cluster.nodes.first else { return ("", 0) }
        var undone = 0
        let upid = node.run("test", id: "", user: "root@pam") { run in
          run.stopText = "interrupted by signal"
          run.onStop { undone += 1 }
          run.after(.seconds(100)) { $0.finish() }
        }
        node.runs[upid]?.stop()
        node.runs[upid]?.stop()
        return (upid, undone)
      }
      #expect(undone == 1)
      #expect(await pve.ending(upid) == "interrupted by signal")
      #expect(await pve.log(of: upid) == ["TASK ERROR: interrupted by signal"])
      let warned = await pve.onCluster(or: "") { cluster in
        cluster.nodes.first?.run("test", id: "", user: "root@pam") { run in
          run.warn("careful")
          run.finish()
        } ?? ""
      }
      #expect(await pve.ending(warned) == "WARNINGS: 1")
      #expect(await pve.log(of: warned) == ["WARN: careful", "TASK WARNINGS: 1"])
    }
  }

  @Test("only so many ended tasks are kept, and finding one doesn't get slower")
  func capacity() {
    var list = TaskList(clock: SimulatorClock(standingAt: 1_800_000_000), booted: 1_799_000_000)
    var first = ""
    var last = ""
    for i in 0..<(TaskList.capacity * 2) {
      last = list.begin(node: "pve1", type: "t", id: "", user: "root@pam")
      if i == 0 { first = last }
      list.end(last, exit: "OK")
    }
    #expect(list[first] == nil)
    #expect(list[last]?.exitStatus == "OK")
    #expect(list.ended.count >= TaskList.capacity)
    #expect(list.ended.count <= TaskList.capacity * 9 / 8)
  }

  @Test("a task that ran when the process died ended with an unexpected status")
  func restored() {
    let clock = SimulatorClock(standingAt: 1_800_000_000)
    var before = TaskList(clock: clock, booted: 1_799_000_000)
    let done = before.begin(node: "pve1", type: "qmstart", id: "100", user: "root@pam!t")
    before.log(done, ["a", "b"])
    before.end(done, exit: "no")
    let running = before.begin(node: "pve1", type: "vzdump", id: "", user: "root@pam")
    before.log(running, ["INFO: x"])
    var after = TaskList(clock: clock, booted: 1_800_000_000)
    after.restore(before.all.map(\.document))
    #expect(after[done]?.log == ["a", "b", "TASK ERROR: no"])
    #expect(after[done]?.exitStatus == "no")
    #expect(after[running]?.exitStatus == "unexpected status")
    #expect(after[running]?.log == ["INFO: x"])
    #expect(after[running]?.statusType == "unknown")
    #expect(after.running.isEmpty)
    #expect(after.begin(node: "pve1", type: "t", id: "", user: "root@pam") != running)
  }
}
