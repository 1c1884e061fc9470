import Testing

@testable import PVESimulator

@Suite("Snapshots of guests")
struct GuestSnapshotTests {
  private func take(
    _ pve: Simulator, _ name: String, _ form: [String: String] = [:], _ path: String = vm102
  ) async -> String {
    await pve.task("POST", "\(path)/snapshot", form.merging(["snapname": name]) { a, _ in a })
  }

  private func parents(_ pve: Simulator, _ path: String = vm102) async -> [String: String] {
    var all: [String: String] = [:]
    for row in await pve.perform("GET", "\(path)/snapshot").data.items {
      all[row["name"]?.asText ?? ""] = row["parent"]?.asText ?? ""
    }
    return all
  }

  @Test(
    "a tree: children of what is deleted become its parent's; going back moves the current state")
  func tree() async throws {
    try await withQuickNode { pve in
      #expect(await take(pve, "one", ["description": "first"]) == "OK")
      _ = await pve.perform("PUT", "\(vm102)/config", ["cores": "5"])
      #expect(await take(pve, "two") == "OK")
      #expect(await take(pve, "three") == "OK")
      #expect(await parents(pve) == ["one": "", "two": "one", "three": "two", "current": "three"])
      #expect(await pve.task("POST", "\(vm102)/snapshot/one/rollback") == "OK")
      #expect(await pve.config(vm102)["cores"] == 2)
      #expect(await pve.config(vm102)["parent"] == "one")
      #expect(await parents(pve)["current"] == "one")
      #expect(await pve.task("DELETE", "\(vm102)/snapshot/two") == "OK")
      #expect(await parents(pve) == ["one": "", "three": "one", "current": "one"])
      #expect(await pve.task("DELETE", "\(vm102)/snapshot/one") == "OK")
      #expect(await parents(pve) == ["three": "", "current": ""])
      let three = await pve.perform("GET", "\(vm102)/snapshot/three/config").data
      #expect(three["cores"] == 5)
      #expect(three["snaptime"]?.number != nil)
      #expect(await pve.perform("GET", "\(vm102)/config", ["snapshot": "three"]).data["cores"] == 5)
    }
  }

  @Test("with the memory of a running VM, going back starts it again")
  func memory() async throws {
    try await withQuickNode { pve in
      #expect(await take(pve, "live", ["vmstate": "1"], vm100) == "OK")
      let row = await pve.perform("GET", "\(vm100)/snapshot").row("name", "live")
      #expect(row?["vmstate"] == 1)
      let content = await pve.perform("GET", "/nodes/pve1/storage/local-lvm/content")
      #expect(content.row("volid", "local-lvm:vm-100-state-live") != nil)
      #expect(await pve.task("POST", "\(vm100)/status/stop") == "OK")
      #expect(await pve.task("POST", "\(vm100)/snapshot/live/rollback") == "OK")
      #expect(await pve.state(vm100) == "running")
      #expect(await pve.task("DELETE", "\(vm100)/snapshot/live") == "OK")
      let after = await pve.perform("GET", "/nodes/pve1/storage/local-lvm/content")
      #expect(after.row("volid", "local-lvm:vm-100-state-live") == nil)
    }
  }

  @Test("a disk that came later stays as an unused one, and its description can be changed")
  func later() async throws {
    try await withQuickNode { pve in
      #expect(await take(pve, "early") == "OK")
      _ = await pve.perform("PUT", "\(vm102)/config", ["scsi1": "local-lvm:1"])
      #expect(await pve.task("POST", "\(vm102)/snapshot/early/rollback", ["start": "1"]) == "OK")
      let config = await pve.config(vm102)
      #expect(config["scsi1"] == nil)
      #expect(config["unused0"] == "local-lvm:vm-102-disk-1")
      _ = await pve.perform("PUT", "\(vm102)/snapshot/early/config", ["description": "text"])
      #expect(
        await pve.perform("GET", "\(vm102)/snapshot").row("name", "early")?["description"] == "text"
      )
    }
  }

  @Test("what snapshots refuse")
  func refusals() async throws {
    try await withQuickNode { pve in
      for name in ["current", "pending"] {
        let refused = await pve.perform("POST", "\(vm102)/snapshot", ["snapname": name])
        #expect(refused.message == "unable to use snapshot name '\(name)' (reserved name)")
      }
      #expect(await take(pve, "one") == "OK")
      #expect(await take(pve, "one") == "snapshot name 'one' already used")
      #expect(await pve.task("DELETE", "\(vm102)/snapshot/two") == "snapshot 'two' does not exist")
      #expect(
        await pve.task("POST", "\(vm102)/snapshot/two/rollback") == "snapshot 'two' does not exist")
      #expect(
        await pve.perform("GET", "\(vm102)/snapshot/two/config").message
          == "snapshot 'two' does not exist")
      await pve.lock(102, "backup")
      #expect(await take(pve, "three") == "VM is locked (backup)")
      #expect(await pve.task("DELETE", "\(vm102)/snapshot/one") == "VM is locked (backup)")
      await pve.lock(102, nil)
      _ = await pve.perform("PUT", "\(vm102)/config", ["scsi1": "local:1"])
      #expect(await take(pve, "four") == "snapshot feature is not available")
      #expect(
        await pve.perform("GET", "\(vm102)/feature", ["feature": "snapshot"]).data["hasFeature"]
          == 0)
      #expect(
        await pve.perform("GET", "\(vm100)/feature", ["feature": "snapshot"]).data["hasFeature"]
          == 1)
    }
  }

  @Test("while one is taken the guest is locked, and a stopped task leaves nothing")
  func locked() async throws {
    try await withNode({ $0.timings.task = .seconds(20) }) { pve in
      let upid =
        await pve.perform("POST", "\(vm102)/snapshot", ["snapname": "slow"]).data.asText ?? ""
      #expect(await pve.perform("GET", "/nodes/pve1/qemu").row("vmid", 102)?["lock"] == "snapshot")
      #expect(await pve.perform("DELETE", "/nodes/pve1/tasks/\(upid)").status == 200)
      #expect(await pve.ending(upid) == "received interrupt")
      #expect(await pve.config(vm102)["lock"] == nil)
      #expect(await parents(pve) == ["current": ""])
    }
  }
}
