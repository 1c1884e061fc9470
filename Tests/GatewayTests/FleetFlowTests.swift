import ConsoleProtocol
import EventLoop
import Foundation
import Logging
import PVESimulator
import ProxmoxClient
import Testing

@testable import Gateway

@Suite("Fleet jobs against the simulated cluster", .serialized)
struct FleetFlowTests {
  static let key = "a-key-that-is-long-enough"

  private func configure(
    _ configuration: inout GatewayConfiguration, folder: String, policy: ExecPolicy? = nil
  ) {
    var key = APIKey(name: "fleet", secret: Secret(Self.key))
    key?.policy = policy
    configuration.apiKeys = [key].compactMap { $0 }
    configuration.exec.dataFolder = folder
    configuration.exec.dataFolderIsChosen = true
  }

  private func folder() -> String {
    FileManager.default.temporaryDirectory.path + "/sallyport-fleet-\(UUID().uuidString)"
  }

  private func call(
    _ gateway: Gateway, _ method: String, _ path: String, _ json: String? = nil,
    headers: [String: String] = [:]
  ) async throws -> (status: Int, json: JSONValue) {
    var all = ["Authorization": "Bearer \(Self.key)"]
    if json != nil { all["Content-Type"] = "application/json" }
    all.merge(headers) { $1 }
    let answer = try await http(
      gateway.port, method, path, headers: all, body: json.map { Array($0.utf8) })
    return (answer.status, answer.body.isEmpty ? .null : try JSONParser.parse(answer.body))
  }

  private func order(_ gateway: Gateway, _ json: String) async throws -> String {
    let answer = try await call(gateway, "POST", "/v1/fleet", json)
    #expect(answer.status == 201, "\(answer.json)")
    return try #require(answer.json["id"].string)
  }

  private func until(
    _ gateway: Gateway, _ id: String, _ isSo: (JSONValue) -> Bool
  ) async throws -> JSONValue {
    for _ in 0..<2400 {
      let fleet = try await call(gateway, "GET", "/v1/fleet/\(id)").json
      if isSo(fleet) { return fleet }
      try await Task.sleep(for: .milliseconds(50))
    }
    Issue.record("the fleet job didn't get there")
    return .null
  }

  private func ended(_ gateway: Gateway, _ id: String) async throws -> JSONValue {
    try await until(gateway, id) { $0["state"].string == "ended" }
  }

  @Test(
    "every guest of a made-up cluster has an outcome of its own, and the reason where it has none")
  func seeded() async throws {
    let folder = folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var expected: Set<String> = []
    var others: Set<String> = []
    try await SimulatedBed.with(
      simulator: { node in
        node.apply(ClusterSeed(seed: 7, guests: 60, nodes: 3))
        for i in node.guests.indices {
          node.guests[i].agentBackEnd = .builtIn
          let guest = node.guests[i]
          guard guest.kind == .qemu, guest.running, !guest.template,
            !guest.tags.contains("windows")
          else { continue }
          if guest.agent {
            expected.insert("qemu/\(guest.vmid)")
          } else {
            others.insert("qemu/\(guest.vmid)")
          }
        }
      },
      { configuration, _ in configure(&configuration, folder: folder) }
    ) { gateway, _ in
      #expect(!expected.isEmpty && !others.isEmpty)
      let id = try await order(
        gateway,
        #"{"select":"type=qemu and tag!=windows","argv":["sh","-c","echo out; echo err >&2"],"concurrency":8,"perNode":4}"#
      )
      let fleet = try await ended(gateway, id)
      #expect(fleet["end"].string == "completed")
      #expect(fleet["targets"]["succeeded"].int == expected.count)
      #expect(fleet["targets"]["failed"].int == others.count)
      let targets = try await call(gateway, "GET", "/v1/fleet/\(id)/targets").json["targets"].array
      for target in targets ?? [] {
        let name = target["target"].string ?? ""
        if expected.contains(name) {
          #expect(target["state"].string == "succeeded")
          #expect(target["stdoutBytes"].int == 4 && target["stderrBytes"].int == 4)
        } else {
          #expect(others.contains(name))
          #expect(target["outcome"].string == "not-started")
          #expect(target["failure"]["kind"].string == "agent-not-configured")
          #expect(target["failure"]["remedy"].string?.isEmpty == false)
        }
      }
      let job = try #require(
        targets?.first { $0["state"].string == "succeeded" }?["job"].string)
      let output = try await http(
        gateway.port, "GET", "/v1/exec/\(job)/output?stream=stdout",
        headers: ["Authorization": "Bearer \(Self.key)"])
      #expect(output.text == "out\n")
    }
  }

  @Test("stopped in the middle, it goes on with the next process, and nothing runs twice")
  func restart() async throws {
    let folder = folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let runs = folder + "-runs"
    defer { try? FileManager.default.removeItem(atPath: runs) }
    try await SimulatedBed.with(
      simulator: { node in
        node.guests = (0..<12).map { i in
          var guest = SimulatedGuest.vm(100 + i, name: "vm-\(i)", tags: ["fleet"], agent: true)
          guest.agentBackEnd = .builtIn
          return guest
        }
      },
      { configuration, _ in
        configure(&configuration, folder: folder)
        // One call of exec for each command, which can be counted.
        for cluster in configuration.clusters {
          configuration.clusterExec[cluster.name, default: ClusterExec()].agentMode = .plain
        }
      }
    ) { gateway, pve in
      let id = try await order(
        gateway, #"{"select":"tag=fleet","argv":["sleep","0.7"],"concurrency":3,"canary":1}"#)
      _ = try await until(gateway, id) { ($0["targets"]["succeeded"].int ?? 0) >= 3 }
      await gateway.stop(grace: .seconds(5))
      let lines = LogLines()
      let second = try await Gateway.start(
        gateway.configuration, logger: Logger(label: "test") { _ in lines.handler })
      let fleet = try await ended(second, id)
      #expect(fleet["end"].string == "completed")
      let succeeded = fleet["targets"]["succeeded"].int ?? 0
      let lost = fleet["targets"]["lost"].int ?? 0
      #expect(succeeded + lost == 12 && succeeded >= 9, "\(fleet)")
      let sent = pve.journal.entries.filter {
        $0.method == "POST" && $0.path.hasSuffix("/agent/exec")
      }
      #expect(sent.count == 12)
      #expect(Set(sent.map(\.path)).count == 12)
      await second.stop(grace: .seconds(5))
    }
  }

  @Test(
    "an order that comes again gives the same fleet job, and another order under its key is refused"
  )
  func idempotency() async throws {
    let folder = folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try await SimulatedBed.with({ configuration, _ in configure(&configuration, folder: folder) }) {
      gateway, _ in
      let order = #"{"select":"qemu/100","argv":["true"]}"#
      let header = ["Idempotency-Key": "one"]
      let first = try await call(gateway, "POST", "/v1/fleet", order, headers: header)
      let second = try await call(gateway, "POST", "/v1/fleet", order, headers: header)
      #expect(first.status == 201 && second.status == 200)
      #expect(first.json["id"] == second.json["id"])
      let other = try await call(
        gateway, "POST", "/v1/fleet", #"{"select":"qemu/100","argv":["false"]}"#, headers: header)
      #expect(other.status == 422)
    }
  }

  @Test(
    "a rule on tags is decided by the guest's tags, for a single job as for a fleet, and explain tells it"
  )
  func rules() async throws {
    let folder = folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var policy = ExecPolicy()
    policy.targets = [try Selector("tag=mine")]
    policy.timeLimit = .seconds(60)
    try await SimulatedBed.with(
      simulator: { node in
        node.guests = [
          .vm(100, name: "mine", tags: ["mine"], agent: true), .vm(101, name: "other", agent: true),
        ]
      },
      { configuration, _ in configure(&configuration, folder: folder, policy: policy) }
    ) { gateway, pve in
      let refused = try await call(
        gateway, "POST", "/v1/exec", #"{"target":"qemu/101","argv":["true"]}"#)
      #expect(refused.status == 403 && refused.json["rule"].string == "exec.targets")
      let fleet = try await call(
        gateway, "POST", "/v1/fleet", #"{"select":"all","argv":["true"]}"#)
      #expect(fleet.status == 403 && fleet.json["refused"] == .array([.string("demo:qemu/101")]))
      let explained = try await call(
        gateway, "POST", "/v1/exec", #"{"target":"qemu/101","argv":["true"],"explain":true}"#)
      #expect(explained.status == 200)
      #expect(explained.json["policy"].array?.first?["allowed"].bool == false)
      #expect(!pve.journal.entries.contains { $0.path.contains("/agent/exec") })
      let allowed = try await call(
        gateway, "POST", "/v1/exec?wait=60", #"{"target":"mine","argv":["true"]}"#)
      #expect(allowed.status == 201 && allowed.json["end"]["code"].int == 0, "\(allowed.json)")
    }
  }
}
