import Testing

@testable import PVESimulator

@Suite("Power of guests")
struct GuestPowerTests {
  @Test("every transition of a VM, and what each state refuses")
  func machine() async throws {
    try await withQuickNode { pve in
      // Stopped.
      #expect(await pve.state(vm102) == "stopped")
      #expect(await pve.task("POST", "\(vm102)/status/stop") == "OK")
      #expect(await pve.task("POST", "\(vm102)/status/shutdown") == "OK")
      for (name, text) in [
        ("reset", "VM 102 not running"), ("reboot", "VM 102 not running"),
        ("suspend", "VM 102 not running"), ("resume", "VM 102 not running"),
      ] {
        let refused = await pve.perform("POST", "\(vm102)/status/\(name)")
        #expect(refused.status == 500)
        #expect(refused.message == text)
      }
      // Running.
      #expect(await pve.task("POST", "\(vm102)/status/start") == "OK")
      #expect(await pve.state(vm102) == "running")
      #expect(await pve.task("POST", "\(vm102)/status/start") == "VM 102 already running")
      #expect(await pve.task("POST", "\(vm102)/status/reset") == "OK")
      #expect(await pve.task("POST", "\(vm102)/status/reboot") == "OK")
      #expect(await pve.state(vm102) == "running")
      // Paused.
      #expect(await pve.task("POST", "\(vm102)/status/suspend") == "OK")
      #expect(await pve.state(vm102) == "paused")
      let shutdown = await pve.perform("POST", "\(vm102)/status/shutdown")
      #expect(shutdown.message == "VM is paused - cannot shutdown")
      #expect(await pve.task("POST", "\(vm102)/status/resume") == "OK")
      #expect(await pve.state(vm102) == "running")
      #expect(await pve.task("POST", "\(vm102)/status/suspend") == "OK")
      #expect(await pve.task("POST", "\(vm102)/status/shutdown", ["forceStop": "1"]) == "OK")
      #expect(await pve.state(vm102) == "stopped")
    }
  }

  @Test("a VM that is suspended to disk has a lock, a volume with its memory, and comes back")
  func suspendToDisk() async throws {
    try await withQuickNode { pve in
      #expect(await pve.task("POST", "\(vm100)/status/suspend", ["todisk": "1"]) == "OK")
      #expect(await pve.state(vm100) == "stopped")
      let config = await pve.config(vm100)
      #expect(config["lock"] == "suspended")
      let state = config["vmstate"]?.asText ?? ""
      #expect(state.hasPrefix("local-lvm:vm-100-state-suspend-"))
      let content = await pve.perform(
        "GET", "/nodes/pve1/storage/local-lvm/content", ["vmid": "100"])
      #expect(content.row("volid", .string(state)) != nil)
      #expect(await pve.task("POST", "\(vm100)/status/resume") == "OK")
      #expect(await pve.state(vm100) == "running")
      #expect(await pve.config(vm100)["lock"] == nil)
      let after = await pve.perform("GET", "/nodes/pve1/storage/local-lvm/content", ["vmid": "100"])
      #expect(after.row("volid", .string(state)) == nil)
    }
  }

  @Test("containers say at once what VMs say in the task")
  func container() async throws {
    try await withQuickNode { pve in
      let running = await pve.perform("POST", "\(ct200)/status/start")
      #expect(running.status == 500)
      #expect(running.message == "CT 200 already running")
      for name in ["stop", "shutdown", "suspend"] {
        let refused = await pve.perform("POST", "\(ct201)/status/\(name)")
        #expect(refused.message == "CT 201 not running")
      }
      #expect(await pve.task("POST", "\(ct201)/status/start") == "OK")
      #expect(await pve.task("POST", "\(ct201)/status/reboot") == "OK")
      #expect(await pve.state(ct201) == "running")
      #expect(await pve.task("POST", "\(ct201)/status/shutdown") == "OK")
      #expect(await pve.state(ct201) == "stopped")
      #expect(await pve.task("POST", "\(ct200)/status/suspend") == "OK")
      #expect(await pve.task("POST", "\(ct200)/status/resume") == "OK")
      #expect(await pve.task("POST", "\(ct200)/status/stop") == "OK")
      #expect(await pve.state(ct200) == "stopped")
    }
  }

  @Test("a lock holds tasks off; only root itself may skip it")
  func locks() async throws {
    try await withQuickNode { pve in
      await pve.lock(100, "backup")
      await pve.lock(102, "migrate")
      await pve.lock(201, "snapshot")
      #expect(await pve.task("POST", "\(vm102)/status/start") == "VM is locked (migrate)")
      #expect(await pve.task("POST", "\(vm100)/status/stop") == "VM is locked (backup)")
      #expect(await pve.task("POST", "\(ct201)/status/start") == "CT is locked (snapshot)")
      let list = await pve.perform("GET", "/nodes/pve1/qemu")
      #expect(list.row("vmid", 102)?["lock"] == "migrate")
      let resources = await pve.perform("GET", "/cluster/resources", ["type": "vm"])
      #expect(resources.row("vmid", 201)?["lock"] == "snapshot")
      for user in ["root@pam!sallyport", "alice@pve"] {
        let refused = await pve.perform(
          "POST", "\(vm102)/status/start", ["skiplock": "1"], as: user)
        #expect(refused.status == 400)
        #expect(refused.fields["skiplock"] == "Only root may use this option.")
      }
      #expect(await pve.task("POST", "\(vm102)/status/start", ["skiplock": "1"]) == "OK")
      #expect(await pve.task("POST", "\(vm100)/status/stop", ["skiplock": "1"]) == "OK")
    }
  }

  @Test("what is missing keeps a VM from starting: its disk, its storage; templates never start")
  func unstartable() async throws {
    try await withQuickNode { pve in
      #expect(
        await pve.task("DELETE", "/nodes/pve1/storage/local-lvm/content/vm-102-disk-0") == "OK")
      _ = await pve.perform("PUT", "\(vm102)/config", ["name": "touched"])
      #expect(
        await pve.task("POST", "\(vm102)/status/start")
          == "no such logical volume pve/vm-102-disk-0")
      _ = await pve.perform("DELETE", "/storage/local-lvm")
      #expect(
        await pve.task("POST", "\(vm102)/status/start") == "storage 'local-lvm' does not exist")
      await pve.onCluster(or: ()) { $0.guests[201]?.config.options["template"] = "1" }
      #expect(
        await pve.task("POST", "\(ct201)/status/start")
          == "you can't start a CT if it's a template")
    }
  }

  @Test("a shutdown that takes long can be overruled by a stop")
  func overruled() async throws {
    try await withNode({ $0.timings.task = .seconds(3) }) { pve in
      let shutdown = await pve.perform("POST", "\(vm100)/status/shutdown").data.asText ?? ""
      let stop =
        await pve.perform(
          "POST", "\(vm100)/status/stop", ["overrule-shutdown": "1"]
        ).data.asText ?? ""
      #expect(await pve.ending(stop) == "OK")
      #expect(await pve.ending(shutdown) == "received interrupt")
      #expect(await pve.state(vm100) == "stopped")
    }
  }
}
