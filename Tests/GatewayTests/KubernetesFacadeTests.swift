import ConsoleProtocol
import ProxmoxClient
import Synchronization
import Testing

@testable import Gateway

/// Counts calls from any thread.
final class LogCounter: Sendable {
  private let value = Atomic(0)
  var count: Int { value.load(ordering: .sequentiallyConsistent) }
  func add() { value.wrappingAdd(1, ordering: .sequentiallyConsistent) }
}

@Suite("The facade for Kubernetes' clients") struct KubernetesFacadeTests {
  @Test("what there is can be discovered")
  func discovery() async throws {
    try await CommandBed.with { bed in
      #expect(try await bed.get("/k8s/version").json["major"].string == "1")
      #expect(try await bed.get("/k8s/api").json["versions"].array == [.string("v1")])
      #expect(try await bed.get("/k8s/apis").json["kind"].string == "APIGroupList")
      let resources = try await bed.get("/k8s/api/v1").json["resources"].array ?? []
      #expect(
        resources.compactMap { $0["name"].string } == ["namespaces", "nodes", "pods", "pods/exec"])
    }
  }

  @Test("guests and nodes are pods of their cluster's namespace; the default one has all")
  func pods() async throws {
    try await CommandBed.with { bed in
      for path in [
        "/k8s/api/v1/namespaces/home/pods", "/k8s/api/v1/namespaces/default/pods",
        "/k8s/api/v1/pods",
      ] {
        let (status, json) = try await bed.get(path)
        #expect(status == 200 && json["kind"].string == "PodList")
        let names = (json["items"].array ?? []).compactMap { $0["metadata"]["name"].string }
        #expect(
          names == [
            "node-pve1", "qemu-100", "qemu-101", "qemu-102", "qemu-103", "qemu-104", "lxc-200",
          ])
      }
      let running = try await bed.get("/k8s/api/v1/namespaces/default/pods/qemu-100").json
      #expect(running["status"]["phase"].string == "Running")
      #expect(running["metadata"]["namespace"].string == "home")
      #expect(running["spec"]["nodeName"].string == "pve1")
      #expect(running["metadata"]["labels"]["tag/a"].string == "")
      #expect(
        running["spec"]["containers"].array?.compactMap { $0["name"].string } == ["guest"])
      let stopped = try await bed.get("/k8s/api/v1/namespaces/home/pods/qemu-101").json
      #expect(stopped["status"]["phase"].string == "Succeeded")
    }
  }

  @Test("a guest is found by its name, where there is one of it")
  func names() async throws {
    try await CommandBed.with { bed in
      let named = try await bed.get("/k8s/api/v1/namespaces/home/pods/web1").json
      #expect(named["metadata"]["name"].string == "web1")
      #expect(named["metadata"]["annotations"]["sallyport/target"].string == "qemu/100")
      for (name, status) in [
        ("twin", 409), ("nobody", 404), ("qemu-999", 404), ("lxc-100", 404), ("node-pve9", 404),
        ("a%2Fb", 404),
      ] {
        let answer = try await bed.get("/k8s/api/v1/namespaces/home/pods/\(name)")
        #expect(answer.status == status, "\(name)")
        #expect(answer.json["kind"].string == "Status")
        #expect(answer.json["code"].int == status)
      }
      let cluster = try await bed.get("/k8s/api/v1/namespaces/elsewhere/pods/qemu-100")
      #expect(cluster.status == 404 && cluster.json["message"].string?.contains("home") == true)
    }
  }

  @Test("kubectl gets its table")
  func table() async throws {
    try await CommandBed.with { bed in
      let accept = [
        "Accept":
          "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
      ]
      let json = try await bed.get("/k8s/api/v1/namespaces/home/pods", headers: accept).json
      #expect(json["kind"].string == "Table")
      let columns = (json["columnDefinitions"].array ?? []).compactMap { $0["name"].string }
      #expect(columns.prefix(5) == ["Name", "Ready", "Status", "Restarts", "Age"])
      let rows = json["rows"].array ?? []
      #expect(rows.count == 7)
      #expect(rows.allSatisfy { $0["cells"].array?.count == columns.count })
      for path in ["/k8s/api/v1/nodes", "/k8s/api/v1/namespaces"] {
        #expect(try await bed.get(path, headers: accept).json["rows"].array?.count == 1)
      }
    }
  }

  @Test(
    "lists are chosen from, and never hold more than was asked for",
    arguments: [
      ("labelSelector=sallyport/type%3Dlxc", 1), ("labelSelector=sallyport/type!%3Dlxc", 6),
      ("labelSelector=tag/a", 6), ("labelSelector=!tag/a,sallyport/type%3D%3Dnode", 1),
      ("fieldSelector=status.phase%3DRunning", 6), ("fieldSelector=metadata.name%3Dqemu-102", 1),
      ("fieldSelector=spec.nodeName!%3Dpve1", 0),
    ])
  func selectors(_ query: String, _ count: Int) async throws {
    try await CommandBed.with { bed in
      let (status, json) = try await bed.get("/k8s/api/v1/pods?\(query)")
      #expect(status == 200 && json["items"].array?.count == count)
    }
  }

  @Test("what isn't there says so in Kubernetes' words")
  func refusals() async throws {
    try await CommandBed.with { bed in
      for (path, status) in [
        ("/k8s/api/v1/secrets", 404), ("/k8s/openapi/v2", 404), ("/k8s/apis/apps/v1", 404),
        ("/k8s/api/v1/pods?watch=true", 405), ("/k8s/api/v1/pods?labelSelector=a+in+(b)", 400),
        ("/k8s/api/v1/pods?fieldSelector=x%3Dy", 400),
        ("/k8s/api/v1/namespaces/home/pods/qemu-100/log", 405),
        ("/k8s/api/v1/namespaces/home/pods/qemu-100/exec?command=true", 400),
      ] {
        let answer = try await bed.get(path)
        #expect(answer.status == status, "\(path)")
        #expect(answer.json["kind"].string == "Status")
        #expect(answer.json["status"].string == "Failure")
      }
      let post = try await http(
        bed.port, "POST", "/k8s/api/v1/namespaces/home/pods",
        headers: ["Authorization": "Bearer \(CommandBed.key)"], body: [])
      #expect(post.status == 405)
      let spdy = try await http(
        bed.port, "POST", "/k8s/api/v1/namespaces/home/pods/qemu-100/exec?command=true",
        headers: ["Authorization": "Bearer \(CommandBed.key)"], body: [])
      #expect(spdy.status == 400 && spdy.text.contains("SPDY"))
    }
  }

  @Test("without a key there is nothing, and reading needs a right too")
  func keys() async throws {
    try await CommandBed.with { bed in
      for path in ["/k8s/version", "/k8s/api/v1/pods", "/k8s/nothing"] {
        let answer = try await bed.get(path, key: nil)
        #expect(answer.status == 401 && answer.json["reason"].string == "Unauthorized")
      }
      let kubectl = try await bed.get(
        "/k8s/api", key: nil, headers: ["User-Agent": "kubectl/v1.32.4 (linux/amd64)"])
      #expect(kubectl.json["message"].string?.contains("https") == true)
      #expect(try await bed.get("/k8s/api/v1/pods", key: CommandBed.readKey).status == 200)
      // Who may only run commands sees the pod that they name, which kubectl asks for, and no list.
      for (path, status) in [
        ("pods", 403), ("nodes", 403), ("namespaces", 403), ("namespaces/home/pods", 403),
        ("namespaces/home/pods/qemu-100", 200),
      ] {
        let answer = try await bed.get("/k8s/api/v1/\(path)", key: CommandBed.runKey)
        #expect(answer.status == status, "\(path)")
      }
      let seen = try await bed.open("\(Self.exec)&command=both", key: CommandBed.runKey).seen()
      #expect(seen.outText == "out")
    }
  }

  static let exec = "/k8s/api/v1/namespaces/default/pods/qemu-100/exec?stdout=true&stderr=true"

  @Test("a command runs on a pod, by the way that its container names")
  func exec() async throws {
    try await CommandBed.with { bed in
      let seen = try await bed.open("\(Self.exec)&container=guest&command=both").seen()
      #expect(seen.outText == "out" && seen.errText == "err" && seen.exit == "1")
      #expect(try await bed.job { $0.state.isOver }.transport == .agent)
      _ = try await bed.open("\(Self.exec)&container=serial&command=both").seen()
      #expect(try await bed.job { $0.state.isOver }.transport == .serial)
      let named = try await bed.open(
        "/k8s/api/v1/namespaces/home/pods/web1/exec?stdout=1&command=exit&command=7"
      ).seen()
      #expect(named.exit == "7")
      for query in ["&container=nginx&command=true", "", "&tty=true&command=true"] {
        guard case .refused(let answer) = try await bed.attempt(Self.exec + query) else {
          Issue.record("it was taken: \(query)")
          continue
        }
        #expect(answer.status == 400)
        #expect(try JSONParser.parse(answer.body)["kind"].string == "Status")
      }
    }
  }

  @Test("kubectl, which hides refused upgrades, is told inside the websocket")
  func kubectl() async throws {
    try await CommandBed.with { bed in
      let seen = try await bed.open(
        "\(Self.exec)&command=exit&command=0", key: CommandBed.readKey,
        headers: ["User-Agent": "kubectl/v1.32.4 (linux/amd64) kubernetes/9b45b07"]
      ).seen()
      #expect(seen.status["reason"].string == "Forbidden")
      #expect(seen.message.contains("no right to 'exec'") && seen.code == 1000)
      #expect(bed.transport.started.withLock { $0.isEmpty })
    }
  }
}
