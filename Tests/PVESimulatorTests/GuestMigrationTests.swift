import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("Migration between two nodes")
  struct GuestMigrationTests {
    private func withTwo(_ body: (Simulator) async throws -> Void) async throws {
      try await withQuickNode(
        {
          $0.clusterName = "two"
          $0.otherNodes = ["pve2"]
        }, body)
    }

    @Test("a stopped VM goes with its disks; the other node has it afterwards")
    func offline() async throws {
      try await withTwo { pve in
        let before = await pve.perform("GET", "\(vm102)/migrate").data
        #expect(before["running"] == 0)
        #expect(before["allowed_nodes"] == ["pve2"])
        #expect(
          before["local_disks"]?.items.map { $0["volid"]?.asText } == ["local-lvm:vm-102-disk-0"])
        let upid =
          await pve.perform("POST", "\(vm102)/migrate", ["target": "pve2"]).data.asText ?? ""
        #expect(await pve.ending(upid) == "OK")
        #expect(
          await pve.log(of: upid).contains {
            $0.contains("starting migration of VM 102 to node 'pve2' (192.0.2.11)")
          })
        #expect(await pve.perform("GET", "\(vm102)/config").status == 500)
        #expect(
          await pve.config("/nodes/pve2/qemu/102")["scsi0"]
            == "local-lvm:vm-102-disk-0,iothread=1,size=32G")
        #expect(await pve.config("/nodes/pve2/qemu/102")["lock"] == nil)
        #expect(
          await pve.perform("GET", "/nodes/pve1/storage/local-lvm/content", ["vmid": "102"]).data
            == [])
        #expect(
          await pve.perform("GET", "/nodes/pve2/storage/local-lvm/content", ["vmid": "102"]).data
            .items.count == 1)
        #expect(await pve.perform("GET", "/cluster/resources").row("vmid", 102)?["node"] == "pve2")
        #expect(await pve.task("POST", "/nodes/pve2/qemu/102/status/start") == "OK")
      }
    }

    @Test("what migrating refuses")
    func refusals() async throws {
      try await withTwo { pve in
        func migrate(_ form: [String: String], _ path: String = vm100) async -> String {
          await pve.task("POST", "\(path)/migrate", form)
        }
        #expect(await migrate(["target": "pve2"]) == "can't migrate running VM without --online")
        #expect(
          await migrate(["target": "pve1"])
            == "Parameter verification failed.; target: target is local node.")
        #expect(await migrate(["target": "pve9"]) == "no such cluster node 'pve9'")
        #expect(await migrate(["target": "pve2", "online": "1"]) == "migration aborted")
        #expect(
          await migrate(["target": "pve2"], ct200)
            == "can't migrate running container without --online or --restart")
        #expect(await migrate(["target": "pve2", "online": "1"], ct200) == "migration aborted")
        await pve.lock(102, "backup")
        #expect(await migrate(["target": "pve2"], vm102) == "VM is locked (backup)")
        await pve.lock(102, nil)
        _ = await pve.perform("PUT", "/storage/local-lvm", ["nodes": "pve1"])
        #expect(
          await migrate(["target": "pve2"], vm102)
            == "storage 'local-lvm' is not available on node 'pve2'")
        let conditions = await pve.perform("GET", "\(vm102)/migrate").data
        #expect(conditions["not_allowed_nodes"]?["pve2"]?["unavailable_storages"] == ["local-lvm"])
        _ = await pve.perform("PUT", "/storage/local-lvm", ["delete": "nodes"])
        await pve.set(.refused, ofNode: "pve2")
        #expect(await migrate(["target": "pve2"], vm102) == "migration aborted")
        #expect(await pve.config(vm102)["lock"] == nil)
      }
    }

    @Test("a running VM is live on the other node; whoever has its console open sees the end")
    func live() async throws {
      try await withTwo { pve in
        let token = TestCredential.token(pve)
        let mint = try await pve.mint("/qemu/100", "vncproxy", ["websocket": "1"], as: token)
        async let banner = blocking {
          let socket = try TestWebsocket(pve, mint, as: token)
          try socket.open()
          let banner = try socket.read(upTo: "\n")
          guard socket.ends(seconds: 15) else { throw ClientFailure(description: "no end") }
          return banner
        }
        for _ in 0..<1000 {
          let isOpen = await pve.onCluster(or: false) {
            ($0.nodes.first?.workers[mint.upid] as? SingleClientWorker)?.isConnected ?? false
          }
          if isOpen { break }
          try await Task.sleep(for: .milliseconds(5))
        }
        #expect(
          await pve.task(
            "POST", "\(vm100)/migrate",
            ["target": "pve2", "online": "1", "with-local-disks": "1"]) == "OK")
        #expect(await pve.state("/nodes/pve2/qemu/100") == "running")
        #expect(try await banner == "RFB 003.008\n")
      }
    }

    @Test("a container is restarted over there")
    func restart() async throws {
      try await withTwo { pve in
        #expect(
          await pve.task("POST", "\(ct200)/migrate", ["target": "pve2", "restart": "1"]) == "OK")
        #expect(await pve.state("/nodes/pve2/lxc/200") == "running")
      }
    }
  }
}
