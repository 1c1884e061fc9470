import Testing

@testable import PVESimulator

@Suite("Configurations of guests")
struct GuestConfigTests {
  @Test("a VM that is made has what was asked for, its disks, and what PVE adds")
  func create() async throws {
    try await withQuickNode { pve in
      let before = await pve.perform("GET", "/nodes/pve1/storage/local-lvm/status").data
      let upid =
        await pve.perform(
          "POST", "/nodes/pve1/qemu",
          [
            "vmid": "500", "name": "fresh", "memory": "4096", "cores": "4", "sockets": "2",
            "scsi0": "local-lvm:8,ssd=1", "scsi1": "local:4,format=qcow2",
            "ide2": "local:iso/debian-12.7.0-amd64-netinst.iso,media=cdrom",
            "net0": "virtio,bridge=vmbr0", "serial0": "socket", "agent": "1", "start": "1",
            "tags": "b;a;B",
          ]
        ).data.asText ?? ""
      #expect(await pve.ending(upid) == "OK")
      let log = await pve.log(of: upid)
      #expect(
        log.contains("scsi0: successfully created disk 'local-lvm:vm-500-disk-0,size=8G,ssd=1'"))
      #expect(log.last == "TASK OK")
      let config = await pve.config("/nodes/pve1/qemu/500")
      #expect(config["scsi0"] == "local-lvm:vm-500-disk-0,size=8G,ssd=1")
      #expect(config["scsi1"] == "local:500/vm-500-disk-0.qcow2,size=4G")
      #expect(
        config["ide2"]?.asText?.hasPrefix(
          "local:iso/debian-12.7.0-amd64-netinst.iso,media=cdrom,size=") == true)
      #expect(config["net0"]?.asText?.hasPrefix("virtio=BC:24:11:") == true)
      #expect(config["boot"] == "order=scsi0;ide2;net0")
      #expect(config["memory"] == "4096")
      #expect(config["cores"] == 4)
      #expect(config["tags"] == "b;a")
      #expect(config["smbios1"]?.asText?.hasPrefix("uuid=") == true)
      #expect(config["vmgenid"]?.asText?.count == 36)
      #expect(config["meta"]?.asText?.hasPrefix("creation-qemu=11.0.0,ctime=") == true)
      #expect(config["digest"]?.asText?.count == 40)
      #expect(config["lock"] == nil)
      let row = await pve.perform("GET", "/nodes/pve1/qemu").row("vmid", 500)
      #expect(row?["cpus"] == 8)
      #expect(row?["maxdisk"] == .int(8 << 30))
      #expect(row?["maxmem"] == .int(4 << 30))
      let after = await pve.perform("GET", "/nodes/pve1/storage/local-lvm/status").data
      #expect((after["used"]?.number ?? 0) - (before["used"]?.number ?? 0) == 8 << 30)
      #expect((before["avail"]?.number ?? 0) - (after["avail"]?.number ?? 0) == 8 << 30)
      for _ in 0..<200 where await pve.state("/nodes/pve1/qemu/500") != "running" {
        try await Task.sleep(for: .milliseconds(5))
      }
      #expect(await pve.state("/nodes/pve1/qemu/500") == "running")
    }
  }

  @Test("what creating refuses")
  func refusals() async throws {
    try await withQuickNode { pve in
      func create(_ form: [String: String], as user: String = "root@pam", _ kind: String = "qemu")
        async -> String
      {
        await pve.task("POST", "/nodes/pve1/\(kind)", form, as: user)
      }
      #expect(
        await create(["vmid": "100"])
          == "unable to create VM 100 - VM 100 already exists on node 'pve1'")
      #expect(
        await create(["vmid": "200"])
          == "unable to create VM 200 - CT 200 already exists on node 'pve1'")
      #expect(await create(["vmid": "501", "scsi0": "nope:8"]) == "storage 'nope' does not exist")
      #expect(
        await pve.perform("POST", "/nodes/pve1/qemu", ["vmid": "501", "scsi0": "8"])
          .fields["scsi0"]?.contains("unable to parse volume ID '8'") == true)
      #expect(await create(["vmid": "501", "pool": "nope"]) == "pool 'nope' does not exist")
      #expect(
        await create(["vmid": "501", "ide2": "local:iso/missing.iso,media=cdrom"])
          == "unable to create VM 501 - volume 'local:iso/missing.iso' does not exist")
      #expect(await pve.perform("GET", "/nodes/pve1/qemu/501/config").status == 500)
      #expect(await create(["vmid": "501"], as: "auditor@pve") == "Permission check failed")
      #expect(
        await create(["vmid": "501", "args": "-S"], as: "alice@pve")
          == "only root can set 'args' config")
      #expect(
        await create(["vmid": "501", "serial0": "/dev/ttyS0"], as: "alice@pve")
          == "only root can set 'serial0' config for real devices")
      #expect(
        await create(["vmid": "501", "ostemplate": "local:vztmpl/none.tar.zst"], "lxc")
          == "volume 'local:vztmpl/none.tar.zst' does not exist")
      #expect(
        await create(
          ["vmid": "501", "ostemplate": "local:iso/debian-12.7.0-amd64-netinst.iso"], "lxc")
          == "unable to use volume local:iso/debian-12.7.0-amd64-netinst.iso - content type needs to be 'vztmpl'"
      )
      _ = await pve.perform("PUT", "/storage/local-lvm", ["content": "rootdir"])
      #expect(
        await create(["vmid": "501", "scsi0": "local-lvm:8"])
          == "Parameter verification failed.; storage: storage 'local-lvm' does not support vm images"
      )
    }
  }

  @Test("a container from a template")
  func container() async throws {
    try await withQuickNode { pve in
      #expect(
        await pve.task(
          "POST", "/nodes/pve1/lxc",
          [
            "vmid": "600", "ostemplate": "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst",
            "hostname": "box", "storage": "local-lvm", "rootfs": "local-lvm:6",
            "net0": "name=eth0,bridge=vmbr0,ip=dhcp", "unprivileged": "1", "password": "geheim1",
          ]) == "OK")
      let config = await pve.config("/nodes/pve1/lxc/600")
      #expect(config["rootfs"] == "local-lvm:vm-600-disk-0,size=6G")
      #expect(config["hostname"] == "box")
      #expect(config["ostype"] == "debian")
      #expect(config["memory"] == 512)
      #expect(config["net0"]?.asText?.contains("hwaddr=BC:24:11:") == true)
      #expect(config["password"] == nil)
      let interfaces = await pve.perform("GET", "\(ct200)/interfaces").data.items
      #expect(interfaces.map { $0["name"]?.asText } == ["lo", "eth0"])
    }
  }

  @Test("a running VM takes some changes at once and others at the next start")
  func pending() async throws {
    try await withQuickNode { pve in
      #expect(
        await pve.perform(
          "PUT", "\(vm100)/config", ["name": "renamed", "memory": "8192", "scsi1": "local-lvm:1"]
        ).status == 200)
      let now = await pve.config(vm100)
      #expect(now["name"] == "renamed")
      #expect(now["memory"] == "2048")
      #expect(now["scsi1"] == "local-lvm:vm-100-disk-1,size=1G")
      #expect(await pve.perform("GET", "\(vm100)/config").data["memory"] == "8192")
      let pending = await pve.perform("GET", "\(vm100)/pending")
      #expect(pending.row("key", "memory")?["value"] == "2048")
      #expect(pending.row("key", "memory")?["pending"] == "8192")
      #expect(pending.row("key", "name")?["pending"] == nil)
      #expect(await pve.perform("PUT", "\(vm100)/config", ["delete": "vga"]).status == 200)
      #expect(await pve.perform("GET", "\(vm100)/pending").row("key", "vga")?["delete"] == 1)
      #expect(await pve.perform("PUT", "\(vm100)/config", ["revert": "vga,memory"]).status == 200)
      #expect(await pve.perform("GET", "\(vm100)/config").data["memory"] == "2048")
      _ = await pve.perform("PUT", "\(vm100)/config", ["cores": "7"])
      #expect(await pve.task("POST", "\(vm100)/status/reboot") == "OK")
      #expect(await pve.config(vm100)["cores"] == 7)
      #expect(await pve.perform("GET", "/nodes/pve1/qemu").row("vmid", 100)?["cpus"] == 7)
      // A stopped one takes everything at once.
      _ = await pve.perform("PUT", "\(vm102)/config", ["memory": "1024"])
      #expect(await pve.config(vm102)["memory"] == "1024")
    }
  }

  @Test("a digest that is not the file's is refused, in the words of each kind")
  func digest() async throws {
    try await withQuickNode { pve in
      let old = await pve.config(vm102)["digest"]?.asText ?? ""
      #expect(
        await pve.perform("PUT", "\(vm102)/config", ["digest": old, "cores": "3"]).status == 200)
      let new = await pve.config(vm102)["digest"]?.asText
      #expect(new != old)
      let refused = await pve.perform("PUT", "\(vm102)/config", ["digest": old, "cores": "4"])
      #expect(refused.status == 500)
      #expect(refused.message == "checksum mismatch (file change by other user?)")
      #expect(await pve.config(vm102)["cores"] == 3)
      let container = await pve.perform("PUT", "\(ct200)/config", ["digest": old, "cores": "4"])
      #expect(
        container.message
          == "detected modified configuration - file changed by other user? Try again.")
    }
  }

  @Test(
    "what changing refuses: nothing, unknown options, both at once, a lock, no device to boot from")
  func changes() async throws {
    try await withQuickNode { pve in
      func put(_ form: [String: String], _ path: String = vm102) async -> Outcome {
        await pve.perform("PUT", "\(path)/config", form)
      }
      #expect(await put([:]).message == "no options specified")
      #expect(await put(["delete": "scsi77"]).fields["delete"] == "unknown option 'scsi77'")
      #expect(
        await put(["delete": "cores", "cores": "2"]).fields["delete"]
          == "you can't use '-cores' and -delete cores' at the same time")
      #expect(
        await put(["boot": "order=scsi5"]).message
          == "invalid bootorder: device 'scsi5' does not exist'")
      #expect(
        await put(["memory": "512", "balloon": "1024"]).message
          == "balloon value too large (must be smaller than assigned memory)")
      #expect(
        await put(["delete": "rootfs"], ct201).message
          == "unable to delete required option 'rootfs'")
      await pve.lock(102, "clone")
      #expect(await put(["cores": "2"]).message == "VM is locked (clone)")
      #expect(await put(["cores": "2", "skiplock": "1"]).status == 200)
    }
  }

  @Test("a disk that is taken out stays as an unused one, and goes when that is deleted")
  func unused() async throws {
    try await withQuickNode { pve in
      _ = await pve.perform("PUT", "\(vm102)/config", ["scsi1": "local-lvm:2"])
      _ = await pve.perform("PUT", "\(vm102)/config", ["delete": "scsi1"])
      let config = await pve.config(vm102)
      #expect(config["scsi1"] == nil)
      #expect(config["unused0"] == "local-lvm:vm-102-disk-1")
      _ = await pve.perform("PUT", "\(vm102)/config", ["protection": "1"])
      #expect(
        await pve.perform("PUT", "\(vm102)/unlink", ["idlist": "unused0"]).message
          == "can't remove unused disk 'local-lvm:vm-102-disk-1' - protection mode enabled")
      _ = await pve.perform("PUT", "\(vm102)/config", ["protection": "0"])
      #expect(await pve.perform("PUT", "\(vm102)/unlink", ["idlist": "unused0"]).status == 200)
      let content = await pve.perform(
        "GET", "/nodes/pve1/storage/local-lvm/content", ["vmid": "102"])
      #expect(content.data.items.map { $0["volid"]?.asText } == ["local-lvm:vm-102-disk-0"])
      // The one in the boot order leaves it.
      _ = await pve.perform("PUT", "\(vm102)/config", ["delete": "scsi0"])
      #expect(await pve.config(vm102)["boot"] == "order=net0")
    }
  }

  @Test("each option has its privilege")
  func privileges() async throws {
    try await withQuickNode({
      $0.users.append(SimulatedUser("net@pve", roles: ["/vms/102": "PVEVMUser"]))
    }) { pve in
      let user = "net@pve"
      func put(_ form: [String: String]) async -> Outcome {
        await pve.perform("PUT", "\(vm102)/config", form, as: user)
      }
      #expect(
        await put(["cores": "2"]).message == "Permission check failed (/vms/102, VM.Config.CPU)")
      #expect(
        await put(["memory": "64"]).message
          == "Permission check failed (/vms/102, VM.Config.Memory)")
      #expect(
        await put(["name": "x"]).message == "Permission check failed (/vms/102, VM.Config.Options)")
      #expect(
        await put(["vga": "std"]).message == "Permission check failed (/vms/102, VM.Config.HWType)")
      #expect(
        await put(["scsi0": "local-lvm:vm-102-disk-0"]).message
          == "Permission check failed (/vms/102, VM.Config.Disk)")
      #expect(await put(["ciuser": "x"]).status == 200)
      #expect(await put(["ide2": "none,media=cdrom"]).status == 200)
      #expect(
        await put(["scsi1": "local-lvm:1"]).message
          == "Permission check failed (/storage/local-lvm, Datastore.AllocateSpace)")
    }
  }

  @Test("POST changes in a task, and with a delay waits for it")
  func background() async throws {
    try await withQuickNode { pve in
      let upid = await pve.perform("POST", "\(vm102)/config", ["cores": "3"]).data.asText ?? ""
      #expect(await pve.ending(upid) == "OK")
      #expect(await pve.log(of: upid).first == "update VM 102: -cores 3")
      let waited = await pve.perform(
        "POST", "\(vm102)/config", ["cores": "4", "background_delay": "5"])
      #expect(waited.status == 200)
      #expect(waited.data == .null)
      #expect(await pve.config(vm102)["cores"] == 4)
    }
  }

  @Test("destroying: not while it runs, not when protected; volumes, rights and pool go with it")
  func destroy() async throws {
    try await withQuickNode { pve in
      #expect(
        await pve.perform("DELETE", vm100).message == "VM 100 is running - destroy failed")
      #expect(
        await pve.perform("DELETE", ct200).message
          == "unable to destroy CT 200 - container is running")
      _ = await pve.perform("PUT", "\(vm102)/config", ["protection": "1"])
      #expect(
        await pve.perform("DELETE", vm102).message
          == "can't remove VM 102 - protection mode enabled")
      _ = await pve.perform("PUT", "\(vm102)/config", ["delete": "protection"])
      _ = await pve.perform("POST", "/pools", ["poolid": "p"])
      _ = await pve.perform("PUT", "/pools", ["poolid": "p", "vms": "102"])
      #expect(await pve.task("DELETE", vm102, ["purge": "1"]) == "OK")
      #expect(
        await pve.perform("GET", "\(vm102)/config").message
          == "Configuration file 'nodes/pve1/qemu-server/102.conf' does not exist")
      let content = await pve.perform(
        "GET", "/nodes/pve1/storage/local-lvm/content", ["vmid": "102"])
      #expect(content.data == [])
      #expect(await pve.perform("GET", "/pools/p").data["members"] == [])
      #expect(await pve.task("DELETE", ct200, ["force": "1"]) == "OK")
      #expect(await pve.perform("GET", "/cluster/nextid").data == "102")
    }
  }

  @Test("the configuration, not its seed, says which serial ports and agent there are")
  func derived() async throws {
    try await withQuickNode { pve in
      _ = await pve.perform("PUT", "\(vm102)/config", ["serial1": "socket", "agent": "enabled=1"])
      let about = await pve.onCluster(or: nil) { $0.guests[102]?.description }
      #expect(about?.serialPorts == [1: .shell])
      #expect(about?.agent == true)
    }
  }
}
