import Testing

@testable import PVESimulator

@Suite("Clones, templates and disks")
struct GuestCloneTests {
  @Test("a full clone has copies of the disks and identifiers of its own")
  func full() async throws {
    try await withQuickNode { pve in
      _ = await pve.perform("POST", "/pools", ["poolid": "p"])
      let upid =
        await pve.perform(
          "POST", "\(vm102)/clone", ["newid": "700", "name": "copy", "pool": "p", "full": "1"]
        ).data.asText ?? ""
      #expect(await pve.ending(upid) == "OK")
      #expect(
        await pve.log(of: upid).contains(
          "create full clone of drive scsi0 (local-lvm:vm-102-disk-0)"))
      let old = await pve.config(vm102)
      let new = await pve.config("/nodes/pve1/qemu/700")
      #expect(new["name"] == "copy")
      #expect(new["scsi0"] == "local-lvm:vm-700-disk-0,iothread=1,size=32G")
      for key in ["net0", "smbios1", "vmgenid"] { #expect(new[key] != old[key]) }
      #expect(new["net0"]?.asText?.hasSuffix(",bridge=vmbr0,firewall=1") == true)
      #expect(new["lock"] == nil)
      #expect(await pve.perform("GET", "/cluster/resources").row("vmid", 700)?["pool"] == "p")
    }
  }

  @Test("a template's clone is a linked one, and its base can't go before it")
  func linked() async throws {
    try await withQuickNode { pve in
      #expect(await pve.task("POST", "\(vm102)/template") == "OK")
      #expect(await pve.config(vm102)["scsi0"] == "local-lvm:base-102-disk-0,iothread=1,size=32G")
      #expect(await pve.perform("GET", "/nodes/pve1/qemu").row("vmid", 102)?["template"] == 1)
      #expect(
        await pve.task("POST", "\(vm102)/status/start") == "you can't start a vm if it's a template"
      )
      #expect(await pve.task("POST", "\(vm102)/clone", ["newid": "701"]) == "OK")
      let content = await pve.perform("GET", "/nodes/pve1/storage/local-lvm/content")
      #expect(
        content.row("volid", "local-lvm:vm-701-disk-0")?["parent"] == "local-lvm:base-102-disk-0")
      #expect(
        await pve.task("DELETE", vm102)
          == "base volume 'local-lvm:base-102-disk-0' is still in use by linked cloned local-lvm:vm-701-disk-0"
      )
      #expect(await pve.task("DELETE", "/nodes/pve1/qemu/701") == "OK")
      #expect(await pve.task("DELETE", vm102) == "OK")
    }
  }

  @Test("what cloning and templates refuse")
  func refusals() async throws {
    try await withQuickNode { pve in
      func clone(_ form: [String: String], _ path: String = vm102) async -> String {
        await pve.perform("POST", "\(path)/clone", form).message
      }
      #expect(
        await clone(["newid": "100"]) == "unable to create VM 100: config file already exists")
      #expect(await clone(["newid": "710", "snapname": "no"]) == "snapshot 'no' does not exist")
      #expect(
        await clone(["newid": "710", "full": "0", "storage": "local"])
          == "parameter 'storage' not allowed for linked clones")
      #expect(
        await clone(["newid": "710", "full": "0"])
          == "Linked clone feature is not supported for 'local-lvm:vm-102-disk-0' (scsi0)")
      #expect(await clone(["newid": "710", "target": "pve9"]) == "no such cluster node 'pve9'")
      #expect(
        await clone(["newid": "710"], ct200)
          == "Cannot do full clones on a running container without snapshots")
      #expect(
        await pve.perform("POST", "\(vm100)/template").message
          == "you can't convert a VM to template if VM is running")
      _ = await pve.task("POST", "\(vm102)/snapshot", ["snapname": "one"])
      #expect(
        await pve.perform("POST", "\(vm102)/template").message
          == "unable to create template, because VM contains snapshots")
    }
  }

  @Test("a clone that is stopped leaves nothing behind")
  func stopped() async throws {
    try await withNode({ $0.timings.task = .seconds(20) }) { pve in
      let upid = await pve.perform("POST", "\(vm102)/clone", ["newid": "720"]).data.asText ?? ""
      #expect(await pve.perform("GET", "/nodes/pve1/qemu").row("vmid", 720)?["lock"] == "clone")
      _ = await pve.perform("DELETE", "/nodes/pve1/tasks/\(upid)")
      #expect(await pve.ending(upid) == "clone failed: interrupted by signal")
      #expect(await pve.perform("GET", "/nodes/pve1/qemu").row("vmid", 720) == nil)
    }
  }

  @Test("disks grow, and don't shrink")
  func resize() async throws {
    try await withQuickNode { pve in
      let path = "\(vm102)/resize"
      #expect(await pve.task("PUT", path, ["disk": "scsi0", "size": "+2G"]) == "OK")
      #expect(await pve.config(vm102)["scsi0"] == "local-lvm:vm-102-disk-0,iothread=1,size=34G")
      #expect(
        await pve.perform("GET", "/nodes/pve1/storage/local-lvm/content").row(
          "volid", "local-lvm:vm-102-disk-0")?["size"] == .int(34 << 30))
      #expect(await pve.task("PUT", path, ["disk": "scsi0", "size": "40G"]) == "OK")
      #expect(
        await pve.task("PUT", path, ["disk": "scsi0", "size": "1G"])
          == "shrinking disks is not supported")
      #expect(
        await pve.task("PUT", path, ["disk": "scsi5", "size": "1G"])
          == "disk 'scsi5' does not exist")
      #expect(await pve.task("PUT", "\(ct200)/resize", ["disk": "rootfs", "size": "+1G"]) == "OK")
      #expect(
        await pve.perform("PUT", "\(ct200)/resize", ["disk": "rootfs", "size": "1G"]).message
          == "unable to shrink disk size")
    }
  }

  @Test("a disk moves to another storage, or to another VM")
  func move() async throws {
    try await withQuickNode { pve in
      let path = "\(vm102)/move_disk"
      #expect(
        await pve.task("POST", path, ["disk": "scsi0", "storage": "local", "format": "qcow2"])
          == "OK")
      let config = await pve.config(vm102)
      #expect(config["scsi0"] == "local:102/vm-102-disk-0.qcow2,iothread=1,size=32G")
      #expect(config["unused0"] == "local-lvm:vm-102-disk-0")
      #expect(
        await pve.task("POST", path, ["disk": "scsi0", "storage": "local-lvm", "delete": "1"])
          == "OK")
      #expect(await pve.config(vm102)["scsi0"] == "local-lvm:vm-102-disk-1,iothread=1,size=32G")
      #expect(
        await pve.perform("POST", path, ["disk": "scsi0", "storage": "local-lvm"]).message
          == "you can't move to the same storage with same format")
      #expect(
        await pve.task(
          "POST", path, ["disk": "unused0", "target-vmid": "101", "target-disk": "scsi3"]) == "OK")
      #expect(
        await pve.config("/nodes/pve1/qemu/101")["scsi3"]?.asText?.hasPrefix(
          "local-lvm:vm-101-disk-1") == true)
      #expect(await pve.perform("POST", path, ["disk": "scsi0"]).fields.count == 2)
      #expect(
        await pve.perform("POST", path, ["disk": "scsi0", "target-vmid": "102"]).fields[
          "target-vmid"]
          == "must be different than source VMID to reassign disk")
    }
  }
}
