import Testing

@testable import PVESimulator

@Suite("Storages and volumes")
struct StorageTests {
  private let content = "/nodes/pve1/storage/local/content"

  @Test("definitions are made, changed and removed; what a type needs and doesn't know is refused")
  func definitions() async throws {
    try await withQuickNode { pve in
      #expect(
        await pve.perform("GET", "/storage").data.items.map { $0["storage"]?.asText } == [
          "local", "local-lvm",
        ])
      let made = await pve.perform(
        "POST", "/storage",
        [
          "storage": "share", "type": "nfs", "server": "192.0.2.9", "export": "/x",
          "content": "iso,backup",
        ])
      #expect(made.data == ["storage": "share", "type": "nfs"])
      let read = await pve.perform("GET", "/storage/share").data
      #expect(read["path"] == "/mnt/pve/share")
      #expect(read["shared"] == 1)
      #expect(read["content"] == "iso,backup")
      func post(_ form: [String: String]) async -> String {
        await pve.perform("POST", "/storage", form).message
      }
      let locked = "create storage failed: error during cfs-locked 'file-storage_cfg' operation: "
      #expect(
        await post(["storage": "share", "type": "dir", "path": "/y"]) == locked
          + "storage ID 'share' already defined")
      #expect(
        await post(["storage": "more", "type": "nfs", "server": "192.0.2.9"])
          == "missing value for required option 'export'")
      #expect(
        await post(["storage": "more", "type": "dir", "path": "/y", "vgname": "vg"])
          == "unexpected property 'vgname'")
      #expect(await pve.perform("PUT", "/storage/share", ["content": "iso"]).status == 200)
      #expect(
        await pve.perform("PUT", "/storage/nope", ["content": "iso"]).message.hasSuffix(
          "storage 'nope' does not exist"))
      #expect(await pve.perform("DELETE", "/storage/share").status == 200)
      #expect(
        await pve.perform("GET", "/storage/share").message == "storage 'share' does not exist")
      #expect(await post(["storage": "zfs", "type": "zfspool", "pool": "rpool/data"]) == "")
      #expect(
        await pve.perform("GET", "/nodes/pve1/storage", ["content": "iso"]).data.items.map {
          $0["storage"]?.asText
        } == ["local"])
      #expect(
        await pve.perform("GET", "/nodes/pve1/storage/nope/status").fields["storage"]
          == "No such storage.")
    }
  }

  @Test("a disabled storage, and one that is on another node")
  func unavailable() async throws {
    try await withQuickNode({ $0.otherNodes = ["pve2"] }) { pve in
      _ = await pve.perform(
        "POST", "/storage", ["storage": "there", "type": "dir", "path": "/y", "nodes": "pve2"])
      #expect(
        await pve.perform("GET", "/nodes/pve1/storage/there/content").message
          == "storage 'there' is not available on node 'pve1'")
      #expect(await pve.perform("GET", "/nodes/pve2/storage/there/content").status == 200)
      _ = await pve.perform("PUT", "/storage/there", ["disable": "1"])
      #expect(
        await pve.perform("GET", "/nodes/pve2/storage/there/content").message
          == "storage 'there' is disabled")
      #expect(
        await pve.perform("GET", "/nodes/pve2/storage", ["enabled": "1"]).row("storage", "there")
          == nil)
      let rows = await pve.perform("GET", "/cluster/resources", ["type": "storage"]).data.items
      #expect(
        rows.map { $0["id"]?.asText } == [
          "storage/pve1/local", "storage/pve2/local", "storage/pve1/local-lvm",
          "storage/pve2/local-lvm",
        ])
    }
  }

  @Test("volumes are allocated, described and removed")
  func volumes() async throws {
    try await withQuickNode { pve in
      let made = await pve.perform(
        "POST", content, ["vmid": "100", "filename": "vm-100-disk-9.qcow2", "size": "2G"])
      #expect(made.data == "local:100/vm-100-disk-9.qcow2")
      #expect(await pve.perform("GET", "\(content)/local:100%2Fvm").status != 200)
      let info = await pve.perform("GET", "\(content)/local:100/vm-100-disk-9.qcow2")
      #expect(info.status == 501 || info.data["size"] == .int(2 << 30))
      #expect(
        await pve.perform(
          "POST", content, ["vmid": "100", "filename": "vm-100-disk-9.qcow2", "size": "2G"]
        ).message.hasSuffix("already exists"))
      #expect(
        await pve.perform(
          "POST", content, ["vmid": "100", "filename": "a.raw", "size": "2G", "format": "qcow2"]
        ).fields["format"] == "different storage formats (qcow2 != raw)")
      #expect(
        await pve.perform(
          "POST", "/nodes/pve1/storage/local-lvm/content",
          ["vmid": "100", "filename": "bad", "size": "1G"]
        ).message == "illegal name 'bad' - should be 'vm-100-*'")
      #expect(
        await pve.task("DELETE", "/nodes/pve1/storage/local-lvm/content/vm-100-disk-77")
          == "lvremove 'pve/vm-100-disk-77' error:   Failed to find logical volume \"pve/vm-100-disk-77\""
      )
      #expect(
        await pve.perform("DELETE", "/nodes/pve1/storage/local-lvm/content/nonsense").message
          == "unable to parse lvm volume name 'nonsense'")
      let waited = await pve.perform(
        "DELETE", "/nodes/pve1/storage/local-lvm/content/vm-101-disk-0", ["delay": "5"])
      #expect(waited.status == 200)
      #expect(waited.data == .null)
    }
  }

  @Test("who may see and remove what")
  func privileges() async throws {
    try await withQuickNode({
      $0.users.append(SimulatedUser("iso@pve", roles: ["/storage/local": "PVEDatastoreUser"]))
    }) { pve in
      let rows = await pve.perform("GET", content, as: "iso@pve").data.items
      #expect(rows.map { $0["content"]?.asText } == ["iso", "vztmpl"])
      #expect(
        await pve.perform(
          "DELETE", "/nodes/pve1/storage/local-lvm/content/vm-100-disk-0", as: "iso@pve"
        ).message == "Permission check failed (/storage/local-lvm, Datastore.Allocate)")
      #expect(await pve.perform("GET", "/nodes/pve1/storage", as: "iso@pve").data.items.count == 1)
      #expect(await pve.perform("GET", "/storage", as: "auditor@pve").data.items.count == 2)
    }
  }

  @Test("an upload becomes a volume of its size; its checksum, name and place are checked")
  func upload() async throws {
    try await withQuickNode { pve in
      func upload(
        _ form: [String: String], _ file: String, size: Int = 1 << 30,
        digests: [String: String] = [:]
      ) async -> String {
        let begun = await pve.onCluster(or: "") { cluster -> String in
          guard let node = cluster.nodes.first else { return "" }
          var values = Parameters()
          for (name, value) in form.merging(["node": "pve1"], uniquingKeysWith: { a, _ in a }) {
            values.set(name, .text(value))
          }
          do throws(APIError) {
            let target = try node.beginUpload(
              Arguments(identity: Identity(authID: "root@pam"), values: values), filename: file)
            return node.finishUpload(target, size: size, digests: digests)
          } catch {
            return error.fields.first.map { "\($0.name): \($0.text)" } ?? error.message
          }
        }
        return begun.hasPrefix("UPID:") ? await pve.ending(begun) : begun
      }
      #expect(
        await upload(["storage": "local", "content": "iso"], "C:\\folder\\my disk.iso") == "OK")
      let row = await pve.perform("GET", content).row("volid", "local:iso/my_disk.iso")
      #expect(row?["size"] == .int(1 << 30))
      #expect(
        await upload(["storage": "local", "content": "iso"], "a.txt")
          == "filename: wrong file extension")
      #expect(
        await upload(["storage": "local", "content": "vztmpl"], "a.iso")
          == "filename: wrong file extension")
      #expect(
        await upload(["storage": "local", "content": "import"], "a.iso")
          == "filename: invalid filename or wrong extension")
      #expect(
        await upload(["storage": "local-lvm", "content": "iso"], "a.iso")
          == "can't upload to storage type 'lvmthin'")
      #expect(
        await upload(["storage": "nope", "content": "iso"], "a.iso")
          == "storage 'nope' does not exist")
      let sum = [
        "storage": "local", "content": "iso", "checksum": "AB", "checksum-algorithm": "sha256",
      ]
      #expect(await upload(sum, "b.iso", digests: ["sha256": "ab"]) == "OK")
      #expect(
        await upload(sum, "c.iso", digests: ["sha256": "cd"])
          == "checksum mismatch: got 'cd' != expect 'AB'")
      #expect(await pve.perform("GET", content).row("volid", "local:iso/c.iso") == nil)
      _ = await pve.perform("PUT", "/storage/local", ["content": "backup"])
      #expect(
        await upload(["storage": "local", "content": "iso"], "a.iso")
          == "storage 'local' does not support 'iso' content")
      #expect(
        await pve.perform(
          "POST", "/nodes/pve1/storage/local/upload", ["content": "iso", "filename": "a.iso"]
        ).message == "missing temporary file name")
    }
  }

  @Test("a download is a task, and doesn't replace what is there")
  func download() async throws {
    try await withQuickNode { pve in
      let form = ["content": "iso", "filename": "net.iso", "url": "https://example.com/net.iso"]
      #expect(await pve.task("POST", "/nodes/pve1/storage/local/download-url", form) == "OK")
      #expect(
        await pve.task("POST", "/nodes/pve1/storage/local/download-url", form)
          == "refusing to override existing file 'net.iso'")
    }
  }

  @Test("a backup can be noted, protected, restored over its guest and as another one, and pruned")
  func backups() async throws {
    try await withQuickNode { pve in
      _ = await pve.perform("PUT", "\(vm102)/config", ["cores": "6"])
      let upid =
        await pve.perform(
          "POST", "/nodes/pve1/vzdump",
          [
            "vmid": "102", "storage": "local", "compress": "zstd",
            "notes-template": "{{guestname}} of {{node}}",
          ]
        ).data.asText ?? ""
      #expect(await pve.ending(upid) == "OK")
      #expect(await pve.log(of: upid).contains("INFO: Backup job finished successfully"))
      let row = await pve.perform("GET", content, ["content": "backup"]).data.items.first
      let volume = row?["volid"]?.asText ?? ""
      #expect(volume.hasPrefix("local:backup/vzdump-qemu-102-"))
      #expect(volume.hasSuffix(".vma.zst"))
      #expect(row?["notes"] == "win-test of pve1")
      #expect(row?["subtype"] == "qemu")
      #expect(
        await pve.perform("GET", "/nodes/pve1/vzdump/extractconfig", ["volume": volume]).data
          .asText?.contains("cores: 6\n") == true)
      _ = await pve.perform("PUT", "\(vm102)/config", ["cores": "1"])
      #expect(
        await pve.perform("POST", "/nodes/pve1/qemu", ["vmid": "102", "archive": volume]).message
          == "unable to restore VM 102 - VM 102 already exists on node 'pve1'")
      #expect(
        await pve.task(
          "POST", "/nodes/pve1/qemu", ["vmid": "102", "archive": volume, "force": "1"]) == "OK")
      #expect(await pve.config(vm102)["cores"] == 6)
      #expect(
        await pve.task(
          "POST", "/nodes/pve1/qemu",
          ["vmid": "800", "archive": volume, "unique": "1", "storage": "local"]) == "OK")
      let copy = await pve.config("/nodes/pve1/qemu/800")
      #expect(copy["scsi0"]?.asText?.hasPrefix("local:800/vm-800-disk-0.raw,") == true)
      #expect(copy["net0"] != (await pve.config(vm102))["net0"])
      #expect(
        await pve.perform(
          "POST", "/nodes/pve1/qemu",
          ["vmid": "801", "archive": "local:backup/vzdump-qemu-1-x.vma"]
        ).message == "volume 'local:backup/vzdump-qemu-1-x.vma' does not exist")
      let path = "\(content)/\(volume)"
      _ = await pve.perform("PUT", path, ["protected": "1"])
      #expect(await pve.task("POST", "/nodes/pve1/vzdump", ["vmid": "102"]) == "OK")
      let marks = await pve.perform(
        "GET", "/nodes/pve1/storage/local/prunebackups", ["prune-backups": "keep-last=0"]
      ).data.items.map { $0["mark"]?.asText ?? "" }
      #expect(marks.count == 2)
      #expect(
        await pve.perform("POST", "/nodes/pve1/vzdump", ["vmid": "999"]).message
          == "unable to find VM '999'")
      await pve.lock(102, "snapshot")
      #expect(await pve.task("POST", "/nodes/pve1/vzdump", ["vmid": "102"]) == "job errors")
    }
  }

  @Test("a container is backed up and restored too")
  func containerBackup() async throws {
    try await withQuickNode { pve in
      #expect(
        await pve.task("POST", "/nodes/pve1/vzdump", ["vmid": "200", "mode": "suspend"]) == "OK")
      let volume =
        await pve.perform("GET", content, ["content": "backup"]).data.items.first?["volid"]?.asText
        ?? ""
      #expect(
        await pve.task(
          "POST", "/nodes/pve1/lxc",
          ["vmid": "810", "ostemplate": volume, "restore": "1", "storage": "local-lvm"]) == "OK")
      #expect(
        await pve.config("/nodes/pve1/lxc/810")["rootfs"] == "local-lvm:vm-810-disk-0,size=8G")
    }
  }
}
