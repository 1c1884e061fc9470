import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("Operations without a handler of their own")
  struct GenericOperationTests {
    /// Calls on a fresh cluster's first node.
    private struct Caller {
      let cluster: Cluster

      func call(
        _ method: String, _ path: String, _ values: [String: String] = [:],
        as user: String = "root@pam"
      ) -> Result<JSON, APIError> {
        var parameters = Parameters()
        for (name, value) in values.sorted(by: { $0.key < $1.key }) {
          parameters.set(name, .text(value))
        }
        let call = APICall(
          method: method, path: path, identity: Identity(authID: user), parameters: parameters)
        return Result { () throws(APIError) in try cluster.nodes[0].perform(call).data }
      }

      func data(_ method: String, _ path: String, _ values: [String: String] = [:]) -> JSON {
        (try? call(method, path, values).get()) ?? "failed"
      }

      func failure(_ method: String, _ path: String, _ values: [String: String] = [:]) -> String {
        switch call(method, path, values) {
        case .success(let data): "answered \(data.text)"
        case .failure(let error): "\(error.status) \(error.message)"
        }
      }
    }

    private func onCluster(_ body: @escaping @Sendable (Caller) -> Void) async throws {
      try await withNode { pve in
        await pve.onCluster(or: ()) { body(Caller(cluster: $0)) }
      }
    }

    @Test("what is made is listed, read, changed and removed, in the schema's types")
    func documents() async throws {
      try await onCluster { node in
        let jobs = "/cluster/backup"
        #expect(node.data("GET", jobs) == [])
        #expect(
          node.data(
            "POST", jobs,
            ["id": "nightly", "schedule": "daily", "all": "1", "storage": "local", "zstd": "2"])
            == .null)
        #expect(
          node.failure("POST", jobs, ["id": "nightly", "schedule": "daily", "all": "1"])
            == "500 job 'nightly' already exists")
        let rows = node.data("GET", jobs).items
        #expect(rows.count == 1)
        #expect(rows.first?["id"] == "nightly")
        #expect(rows.first?["all"] == 1)
        #expect(rows.first?["zstd"] == 2)
        #expect(
          node.data("PUT", jobs + "/nightly", ["delete": "zstd,storage", "comment": "at night"])
            == .null)
        let job = node.data("GET", jobs + "/nightly")
        #expect(job["comment"] == "at night")
        #expect(job["zstd"] == nil)
        #expect(job["storage"] == nil)
        #expect(job["schedule"] == "daily")
        #expect(node.data("DELETE", jobs + "/nightly") == .null)
        #expect(node.failure("GET", jobs + "/nightly") == "500 No such job 'nightly'")
        #expect(node.failure("DELETE", jobs + "/nightly") == "500 No such job 'nightly'")
        #expect(node.data("GET", jobs) == [])
      }
    }

    @Test("firewall rules have positions, and move")
    func rules() async throws {
      try await onCluster { node in
        let rules = "/cluster/firewall/rules"
        for port in ["1", "2", "3"] {
          #expect(
            node.data("POST", rules, ["action": "ACCEPT", "type": "in", "dport": port]) == .null)
        }
        func ports() -> [String] {
          node.data("GET", rules).items.compactMap { $0["dport"]?.asText }
        }
        #expect(ports() == ["3", "2", "1"])
        #expect(node.data("GET", rules).items.map { $0["pos"] } == [0, 1, 2])
        #expect(node.data("PUT", rules + "/0", ["moveto": "3"]) == .null)
        #expect(ports() == ["2", "1", "3"])
        #expect(node.data("PUT", rules + "/1", ["dport": "9", "enable": "1"]) == .null)
        #expect(node.data("GET", rules + "/1")["dport"] == "9")
        #expect(node.data("GET", rules + "/1")["enable"] == 1)
        #expect(node.data("DELETE", rules + "/0") == .null)
        #expect(ports() == ["9", "3"])
        #expect(node.failure("GET", rules + "/2") == "500 no rule at position 2")
        #expect(
          node.failure("DELETE", rules + "/0", ["digest": "0"])
            == "500 detected modified configuration - file changed by other user? Try again.")
      }
    }

    @Test("collections inside collections: IP sets, security groups, and what goes with them")
    func nested() async throws {
      try await onCluster { node in
        let sets = "/cluster/firewall/ipset"
        #expect(
          node.failure("POST", sets + "/web", ["cidr": "10.0.0.0/8"]) == "500 no such IPSet 'web'")
        #expect(node.data("POST", sets, ["name": "web"]) == .null)
        #expect(node.data("POST", sets + "/web", ["cidr": "10.0.0.0/8", "nomatch": "1"]) == .null)
        #expect(node.data("GET", sets + "/web").items.first?["cidr"] == "10.0.0.0/8")
        #expect(node.data("GET", sets + "/web/10.0.0.0/8")["nomatch"] == 1)
        #expect(node.data("DELETE", sets + "/web") == .null)
        #expect(node.data("POST", sets, ["name": "web"]) == .null)
        #expect(node.data("GET", sets + "/web") == [])
        let groups = "/cluster/firewall/groups"
        #expect(node.data("POST", groups, ["group": "db"]) == .null)
        #expect(node.data("POST", groups + "/db", ["action": "DROP", "type": "in"]) == .null)
        #expect(node.data("GET", groups + "/db").items.count == 1)
        #expect(node.data("GET", groups).items.map { $0["group"] } == ["db"])
      }
    }

    @Test("a guest's firewall is the guest's, and a guest that isn't there has none")
    func guests() async throws {
      try await onCluster { node in
        let options = "/nodes/pve1/qemu/100/firewall/options"
        #expect(node.data("PUT", options, ["enable": "1", "policy_in": "DROP"]) == .null)
        #expect(node.data("GET", options)["enable"] == 1)
        #expect(node.cluster.objects["/guests/100/firewall/options", ""]?["policy_in"] == "DROP")
        #expect(
          node.failure("GET", "/nodes/pve1/qemu/999/firewall/options")
            == "500 Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist")
        node.cluster.objects.removeAll(below: "/guests/100")
        #expect(node.data("GET", options)["enable"] == nil)
      }
    }

    @Test("settings, secrets, indexes and tasks")
    func others() async throws {
      try await onCluster { node in
        #expect(node.data("GET", "/nodes/pve1/dns")["dns1"] == "192.0.2.53")
        #expect(
          node.data("PUT", "/nodes/pve1/dns", ["search": "lan", "dns1": "192.0.2.1"]) == .null)
        #expect(node.data("GET", "/nodes/pve1/dns") == ["search": "lan", "dns1": "192.0.2.1"])
        #expect(
          node.data(
            "POST", "/cluster/notifications/endpoints/gotify",
            ["name": "push", "server": "https://push.example", "token": "hidden"]) == .null)
        let endpoint = node.data("GET", "/cluster/notifications/endpoints/gotify/push")
        #expect(endpoint["server"] == "https://push.example")
        #expect(!endpoint.text.contains("hidden"))
        #expect(
          node.failure("GET", "/cluster/notifications/endpoints/gotify/no")
            == "404 endpoint 'no' does not exist")
        #expect(node.data("GET", "/cluster/notifications/matchers").items.count == 1)
        #expect(node.data("DELETE", "/cluster/notifications/matchers/default-matcher") == .null)
        #expect(node.data("GET", "/cluster/notifications/matchers") == [])
        #expect(
          node.data("GET", "/").items.compactMap { $0["subdir"]?.asText }
            == ["access", "cluster", "nodes", "pools", "storage", "version"])
        #expect(node.data("GET", "/cluster/ha").items.contains(["id": "resources"]))
        #expect(node.data("GET", "/nodes/pve1/disks").items.contains(["name": "zfs"]))
        #expect(node.data("PUT", "/nodes/pve1/time", ["timezone": "Europe/Vienna"]) == .null)
        #expect(node.data("GET", "/nodes/pve1/time")["timezone"] == "Europe/Vienna")
        #expect(node.data("POST", "/nodes/pve1/services/cron/stop").asText != nil)
        #expect(node.data("GET", "/nodes/pve1/services/cron/state")["state"] == "dead")
        #expect(node.data("POST", "/cluster/ha/resources", ["sid": "100"]) == .null)
        #expect(node.data("GET", "/cluster/ha/resources/100")["sid"] == "vm:100")
        #expect(
          node.data(
            "POST", "/cluster/replication", ["id": "100-3", "target": "pve1", "type": "local"])
            == .null)
        #expect(node.data("GET", "/cluster/replication/100-3")["jobnum"] == 3)
        #expect(node.data("GET", "/nodes/pve1/replication").items.map { $0["id"] } == ["100-3"])
        #expect(node.data("POST", "/cluster/firewall/ipset", ["name": "web"]) == .null)
        #expect(
          node.data("GET", "/cluster/firewall/refs").items.map { $0["ref"] } == ["+dc/web"])
        let upid = node.data("POST", "/nodes/pve1/services/pveproxy/restart").asText ?? ""
        #expect(upid.hasPrefix("UPID:pve1:"))
        #expect(upid.hasSuffix(":srvrestart:pveproxy:root@pam:"))
        #expect(node.data("GET", "/nodes/pve1/tasks/\(upid)/status")["status"] == "running")
      }
    }

    @Test(
      "every change is told, built-in documents leave a mark when they go, and all can be put back")
    func persistence() {
      let store = ObjectStore()
      var told: [String: JSON] = [:]
      store.changed = { told[$0] = $1 }
      store.addBuiltIn("/a", "x", ["v": 1])
      #expect(told.isEmpty)
      store.set("/a", "y", ["v": 2])
      store.set("/a/y/b", "z", ["v": 3])
      store.remove("/a", "x")
      #expect(told == ["/a y": ["v": 2], "/a/y/b z": ["v": 3], "/a x": .null])
      let other = ObjectStore()
      other.addBuiltIn("/a", "x", ["v": 1])
      for (key, document) in told { other.restore(key: key, document) }
      #expect(other["/a", "x"] == nil)
      #expect(other.documents(in: "/a").map(\.id) == ["y"])
      store.remove("/a", "y")
      #expect(told == ["/a x": .null])
      #expect(store["/a/y/b", "z"] == nil)
    }
  }
}
