import Testing

@testable import PVESimulator

@Suite("Pools")
struct PoolTests {
  @Test("a pool has guests and storages, and is deleted when it is empty")
  func members() async throws {
    try await withQuickNode { pve in
      #expect(
        await pve.perform("POST", "/pools", ["poolid": "prod", "comment": "c"]).status == 200)
      #expect(
        await pve.perform(
          "PUT", "/pools", ["poolid": "prod", "vms": "100,200", "storage": "local"]
        ).status == 200)
      let read = await pve.perform("GET", "/pools/prod").data
      #expect(read["comment"] == "c")
      #expect(
        read["members"]?.items.map { $0["id"]?.asText } == [
          "qemu/100", "lxc/200", "storage/pve1/local",
        ])
      #expect(
        await pve.perform("GET", "/pools", ["poolid": "prod", "type": "lxc"]).data.items.first?[
          "members"]?.items.count == 1)
      #expect(
        await pve.perform("GET", "/cluster/resources").row("id", "/pool/prod")?["type"] == "pool")
      let locked = "error during cfs-locked 'file-user_cfg' operation: "
      #expect(
        await pve.perform("DELETE", "/pools", ["poolid": "prod"]).message
          == "delete pool failed: \(locked)pool 'prod' is not empty (contains VM 100)")
      #expect(
        await pve.perform("PUT", "/pools/prod", ["vms": "100"]).message
          == "update pools failed: \(locked)VM 100 is already a pool member")
      #expect(
        await pve.perform("PUT", "/pools/prod", ["vms": "101", "delete": "1"]).message
          == "update pools failed: \(locked)VM 101 is not a pool member")
      #expect(
        await pve.perform(
          "PUT", "/pools/prod", ["vms": "100,200", "storage": "local", "delete": "1"]
        ).status == 200)
      #expect(await pve.perform("DELETE", "/pools/prod").status == 200)
      #expect(await pve.perform("GET", "/pools/prod").message == "pool 'prod' does not exist")
    }
  }

  @Test("names are nested; a guest is in one pool, and moves when it is allowed to")
  func nested() async throws {
    try await withQuickNode { pve in
      let locked = "error during cfs-locked 'file-user_cfg' operation: "
      #expect(
        await pve.perform("POST", "/pools", ["poolid": "a/b"]).message
          == "create pool failed: \(locked)parent 'a' of pool 'a/b' does not exist")
      for name in ["a", "a/b", "c"] {
        #expect(await pve.perform("POST", "/pools", ["poolid": name]).status == 200)
      }
      #expect(
        await pve.perform("DELETE", "/pools", ["poolid": "a"]).message
          == "delete pool failed: \(locked)pool 'a' is not empty (contains pool 'a/b')")
      #expect(await pve.perform("PUT", "/pools", ["poolid": "a/b", "vms": "100"]).status == 200)
      #expect(
        await pve.perform("PUT", "/pools", ["poolid": "c", "vms": "100"]).message
          == "update pools failed: \(locked)VM 100 belongs already to pool 'a/b' and 'allow-move' is not set"
      )
      #expect(
        await pve.perform("PUT", "/pools", ["poolid": "c", "vms": "100", "allow-move": "1"]).status
          == 200)
      #expect(
        await pve.perform("GET", "/pools", ["poolid": "a/b"]).data.items.first?["members"] == [])
    }
  }

  @Test("what a pool's members get from its ACL, and who may change it")
  func privileges() async throws {
    try await withQuickNode({
      $0.users.append(SimulatedUser("dev@pve", roles: ["/pool/dev": "PVEAdmin"]))
    }) { pve in
      _ = await pve.perform("POST", "/pools", ["poolid": "dev"])
      #expect(
        await pve.perform("GET", "/cluster/resources", ["type": "vm"], as: "dev@pve").data == [])
      _ = await pve.perform("PUT", "/pools", ["poolid": "dev", "vms": "102"])
      #expect(
        await pve.perform("GET", "/cluster/resources", ["type": "vm"], as: "dev@pve").data.items.map
        { $0["vmid"] } == [102])
      #expect(await pve.task("POST", "\(vm102)/status/start", as: "dev@pve") == "OK")
      #expect(
        await pve.perform("PUT", "/pools", ["poolid": "dev", "vms": "100"], as: "dev@pve").message
          == "update pools failed: 403 Permission check failed (/vms/100, Permissions.Modify)")
      // Creating needs nothing but the pool, and a storage.
      #expect(
        await pve.task("POST", "/nodes/pve1/qemu", ["vmid": "900", "pool": "dev"], as: "dev@pve")
          == "OK")
      #expect(
        await pve.task("POST", "/nodes/pve1/qemu", ["vmid": "901"], as: "dev@pve")
          == "Permission check failed")
      #expect(
        await pve.perform("POST", "/pools", ["poolid": "x"], as: "dev@pve").message
          == "Permission check failed (/pool/x, Pool.Allocate)")
    }
  }
}
