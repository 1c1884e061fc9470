import Testing

@testable import PVESimulator

@Suite("Lists of the cluster")
struct ClusterListTests {
  @Test("ten thousand guests are listed, all of them and each right")
  func big() async throws {
    try await withQuickNode({
      $0.otherNodes = ["pve2"]
      $0.guests = (0..<10_000).map { i in
        var guest =
          i % 4 == 3
          ? SimulatedGuest.container(100 + i, name: "ct\(i)", running: i % 2 == 0)
          : SimulatedGuest.vm(100 + i, name: "vm\(i)", running: i % 2 == 0, tags: ["t\(i % 3)"])
        guest.node = i % 2 == 0 ? "pve1" : "pve2"
        return guest
      }
    }) { pve in
      let all = await pve.perform("GET", "/cluster/resources", ["type": "vm"]).data.items
      #expect(all.count == 10_000)
      #expect(all.last?["name"] == "ct9999")
      #expect(all.last?["id"] == "lxc/10099")
      #expect(all.first?["tags"] == "t0")
      let qemu = await pve.perform("GET", "/nodes/pve1/qemu").data.items
      #expect(qemu.count == 5000)
      #expect(qemu.allSatisfy { $0["status"] == "running" } == true)
      #expect(await pve.perform("GET", "/nodes/pve2/lxc").data.items.count == 2500)
      #expect(
        await pve.perform("GET", "/cluster/resources", ["type": "vm"], as: "auditor@pve").data.items
          .count == 10_000)
      let untouched = await pve.onCluster(or: 0) { $0.guests.values.count { $0.isUntouched } }
      #expect(untouched == 10_000)
    }
  }

  @Test("nodes that are down have no numbers, and nobody knows how their guests are")
  func offline() async throws {
    try await withQuickNode({
      $0.clusterName = "c"
      $0.otherNodes = ["pve2"]
      var away = SimulatedGuest.vm(300, name: "away")
      away.node = "pve2"
      $0.guests.append(away)
    }) { pve in
      await pve.set(.unreachable, ofNode: "pve2")
      let nodes = await pve.perform("GET", "/nodes")
      #expect(nodes.row("node", "pve2")?["status"] == "offline")
      #expect(nodes.row("node", "pve2")?["maxmem"] == nil)
      #expect(nodes.row("node", "pve1")?["maxmem"] != nil)
      let resources = await pve.perform("GET", "/cluster/resources")
      #expect(resources.row("vmid", 300)?["status"] == "unknown")
      #expect(resources.row("vmid", 300)?["mem"] == nil)
      #expect(resources.row("id", "storage/pve2/local")?["status"] == "unknown")
      let status = await pve.perform("GET", "/cluster/status")
      #expect(status.row("name", "pve2")?["online"] == 0)
      #expect(status.row("type", "cluster")?["nodes"] == 2)
      #expect(status.row("name", "pve1")?["local"] == 1)
    }
  }

  @Test("who may not see a node sees that it is there")
  func unprivileged() async throws {
    try await withQuickNode({ $0.users.append(SimulatedUser("no@pve")) }) { pve in
      let row = await pve.perform("GET", "/nodes", as: "no@pve").data.items.first
      #expect(row?["status"] == "online")
      #expect(row?["maxmem"] == nil)
      #expect(
        await pve.perform("GET", "/cluster/resources", ["type": "vm"], as: "no@pve").data == [])
      #expect(
        await pve.perform("GET", "/cluster/status", as: "no@pve").message
          == "Permission check failed (/, Sys.Audit)")
    }
  }

  @Test("the datacenter's options, and the next free vmid by them")
  func options() async throws {
    try await withQuickNode { pve in
      #expect(await pve.perform("GET", "/cluster/nextid").data == "103")
      #expect(
        await pve.perform("GET", "/cluster/nextid", ["vmid": "100"]).fields["vmid"]
          == "VM 100 already exists")
      #expect(
        await pve.perform(
          "PUT", "/cluster/options", ["next-id": "lower=500,upper=600", "keyboard": "de"]
        ).status == 200)
      #expect(await pve.perform("GET", "/cluster/options").data["keyboard"] == "de")
      #expect(await pve.perform("GET", "/cluster/nextid").data == "500")
      #expect(await pve.perform("PUT", "/cluster/options", ["delete": "next-id"]).status == 200)
      #expect(await pve.perform("GET", "/cluster/nextid").data == "103")
      #expect(
        await pve.perform("GET", "/cluster/options").data["allowed-tags"] == [
          "db", "prod", "test", "web",
        ])
      #expect(
        await pve.perform("PUT", "/cluster/options", ["keyboard": "en-us"], as: "auditor@pve")
          .message == "Permission check failed (/, Sys.Modify)")
    }
  }

  @Test("all guests of a node at once")
  func bulk() async throws {
    try await withQuickNode { pve in
      func states() async -> [String] {
        await pve.perform("GET", "/cluster/resources", ["type": "vm"]).data.items.map {
          $0["status"]?.asText ?? ""
        }
      }
      #expect(await pve.task("POST", "/nodes/pve1/stopall") == "OK")
      for _ in 0..<400 where await states().contains("running") {
        try await Task.sleep(for: .milliseconds(5))
      }
      #expect(await states() == ["stopped", "stopped", "stopped", "stopped", "stopped"])
      #expect(await pve.task("POST", "/nodes/pve1/startall") == "OK")
      #expect(await states().contains("running") == false)
      #expect(await pve.task("POST", "/nodes/pve1/startall", ["vms": "100,200"]) == "OK")
      for _ in 0..<400 where await states().count(where: { $0 == "running" }) < 2 {
        try await Task.sleep(for: .milliseconds(5))
      }
      #expect(await states().count { $0 == "running" } == 2)
      #expect(
        await pve.perform("POST", "/nodes/pve1/stopall", as: "auditor@pve").message
          == "Permission check failed (/, VM.PowerMgmt)")
    }
  }

  @Test("past values are there for guests, nodes and storages")
  func series() async throws {
    try await withQuickNode { pve in
      for path in ["\(vm100)/rrddata", "/nodes/pve1/rrddata", "/nodes/pve1/storage/local/rrddata"] {
        let rows = await pve.perform("GET", path, ["timeframe": "hour"]).data.items
        #expect(rows.count == 70)
        let times = rows.compactMap { $0["time"]?.number }
        #expect(zip(times, times.dropFirst()).allSatisfy { $1 - $0 == 60 } == true)
        let again = await pve.perform("GET", path, ["timeframe": "hour"]).data.items
        #expect(
          rows.dropFirst(2).first == again.first { $0["time"] == rows.dropFirst(2).first?["time"] })
      }
    }
  }
}
