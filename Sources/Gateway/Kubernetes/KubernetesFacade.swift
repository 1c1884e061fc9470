import ConsoleProtocol
import EventLoop
import GuestExec
import ProxmoxClient

/// As much of the Kubernetes API, under `/k8s`, as `kubectl exec`, `cp` and `get` need: namespaces are clusters, pods are
/// guests and nodes. Everything is read, nothing can be changed.
extension ControlPlane {
  /// Answers a request under `/k8s`; refusals are objects of the kind `Status`.
  func kubernetes(_ call: Call) async -> HTTPResponse {
    do throws(Problem) {
      return try await kubernetesAnswer(call)
    } catch {
      return KubernetesStatus.response(error)
    }
  }

  private func kubernetesAnswer(_ call: Call) async throws(Problem) -> HTTPResponse {
    let request = call.request
    let path = call.values.map { String($0) }
    let isExec =
      path.count == 7 && Array(path[0..<3]) == ["api", "v1", "namespaces"]
      && path[4] == "pods"
    if isExec, path.last == "exec" { try await refuseSPDY(call, path) }
    if isExec, ["attach", "portforward", "log", "eviction"].contains(path.last) {
      throw Problem(
        405, "method-not-allowed", "'\(path.last ?? "")' is not possible here.",
        remedy: "There is kubectl exec and kubectl cp.")
    }
    guard request.method == "GET" || request.method == "HEAD" else {
      throw Problem(
        405, "method-not-allowed", "Nothing can be changed through this API.",
        remedy: "Use Proxmox VE's own, or POST \(prefix)/v1/exec to run commands.")
    }
    for (name, value) in request.query where name == "watch" && (value == "true" || value == "1") {
      throw Problem(
        405, "method-not-allowed", "Watching is not possible here.",
        remedy: "Ask again instead, without --watch.")
    }
    switch path {
    case ["version"]: return .json(200, KubernetesDiscovery.version)
    case ["api"]: return .json(200, KubernetesDiscovery.versions)
    case ["apis"]: return .json(200, KubernetesDiscovery.groups)
    case ["api", "v1"]: return .json(200, KubernetesDiscovery.resources)
    case ["livez"], ["healthz"], ["readyz"]:
      return HTTPResponse(
        status: 200, headers: [("Content-Type", "text/plain")], body: Array("ok".utf8))
    default: break
    }
    let key = try caller(call)
    // kubectl looks at a pod before it runs a command on it. All there is needs the right to know it.
    let isOnePod = path.count == 6 && path[2] == "namespaces" && path[4] == "pods"
    if !(isOnePod && key.has(.exec)) { try key.demand(.inventory) }
    let selector = try KubernetesSelector(request)
    guard path.count >= 3, path[0] == "api", path[1] == "v1" else { throw Self.noSuch(path) }
    switch (path[2], path.count) {
    case ("namespaces", 3):
      let all = broker.clusters.all.map { KubernetesObject.namespace($0.name) }
      return list("NamespaceList", all, selector, KubernetesTable.namespaces, request)
    case ("namespaces", 4):
      guard let cluster = broker.clusters[path[3]] else {
        throw Self.notFound("namespaces", path[3])
      }
      return one(.namespace(cluster.name), KubernetesTable.namespaces, request)
    case ("pods", 3):
      return list("PodList", try await pods(nil), selector, KubernetesTable.pods, request)
    case ("nodes", 3):
      return list("NodeList", try await nodes(), selector, KubernetesTable.nodes, request)
    case ("nodes", 4):
      guard let node = try await nodes().first(where: { $0.name == path[3] }) else {
        throw Self.notFound("nodes", path[3])
      }
      return one(node, KubernetesTable.nodes, request)
    case ("namespaces", 5) where path[4] == "pods":
      return list("PodList", try await pods(path[3]), selector, KubernetesTable.pods, request)
    case ("namespaces", 6) where path[4] == "pods":
      return one(try await pod(path[5], in: path[3]), KubernetesTable.pods, request)
    default: throw Self.noSuch(path)
    }
  }

  private static func noSuch(_ path: [String]) -> Problem {
    Problem(
      404, "not-found",
      "There is no '/\(path.joined(separator: "/").prefix(200))' in the part of the Kubernetes API that is served here.",
      remedy: "There are namespaces (clusters), nodes and pods (guests and nodes).")
  }

  private static func notFound(_ resource: String, _ name: String) -> Problem {
    Problem(404, "not-found", "\(resource) \"\(name.prefix(253))\" not found")
  }

  // MARK: Objects

  /// Every guest and node that there is, or those of one cluster.
  private func pods(_ namespace: String?) async throws(Problem) -> [KubernetesObject] {
    let clusters = try kubernetesClusters(namespace)
    let several = clusters.count > 1
    var out: [KubernetesObject] = []
    for (cluster, result) in await Clusters.inventories(of: clusters) {
      do throws(Problem) {
        let inventory = try result.get()
        out += KubernetesObject.pods(inventory, cluster: cluster)
      } catch {
        // One cluster that doesn't answer hides none of the others.
        if !several { throw error }
      }
    }
    return out
  }

  private func nodes() async throws(Problem) -> [KubernetesObject] {
    var out: [KubernetesObject] = []
    let all = await Clusters.inventories(of: broker.clusters.all)
    for (cluster, result) in all {
      switch result {
      case .success(let inventory): out += inventory.nodes.map { .node($0, cluster: cluster) }
      case .failure(let problem): if all.count == 1 { throw problem }
      }
    }
    return out
  }

  /// The clusters that a namespace stands for: kubectl asks for `default` unless told otherwise.
  private func kubernetesClusters(_ namespace: String?) throws(Problem) -> [Cluster] {
    guard let namespace else { return broker.clusters.all }
    if let cluster = broker.clusters[namespace] { return [cluster] }
    guard namespace == "default" else { throw Self.noNamespace(namespace, broker.clusters) }
    return broker.clusters.all
  }

  private static func noNamespace(_ name: String, _ clusters: Clusters) -> Problem {
    Problem(
      404, "unknown-cluster", "namespaces \"\(name.prefix(253))\" not found.",
      remedy:
        "A namespace is a cluster of the gateway: \(clusters.all.map(\.name).joined(separator: ", "))."
    )
  }

  private func pod(_ name: String, in namespace: String) async throws(Problem) -> KubernetesObject {
    let (target, cluster) = try kubernetesTarget(name, in: namespace)
    let (found, place) = try await broker.clusters.resolve(target, in: cluster)
    for (_, result) in await Clusters.inventories(of: [found]) {
      let inventory = try result.get()
      let all = KubernetesObject.pods(inventory, cluster: found.name, named: target.podName)
      if let pod = all.first(where: { $0.place == place.description }) { return pod }
    }
    throw Self.notFound("pods", name)
  }

  /// The target that a pod's name means, and the cluster of the namespace; nil to look in all of them.
  private func kubernetesTarget(
    _ name: String, in namespace: String
  ) throws(Problem) -> (Target, cluster: String?) {
    let clusters = try kubernetesClusters(namespace)
    guard let target = Target(podName: name) else { throw Self.notFound("pods", name) }
    return (target, clusters.count == 1 ? clusters.first?.name : nil)
  }

  // MARK: Commands

  /// What `pods/NAME/exec` asks for.
  func kubernetesOrder(
    _ call: Call
  ) throws(Problem) -> (order: JobOrder, wanted: CommandStream.Wanted) {
    guard call.values.count == 2 else { throw Self.noSuch([]) }
    // Unknown ones are refused, which Kubernetes doesn't: a semicolon that wasn't escaped ends a parameter here, and what
    // follows it must not get lost.
    let query = try CommandQuery(
      call.request,
      known: ["command", "container", "stdin", "stdout", "stderr", "tty", "pretty", "timeout"])
    let wanted = try CommandStream.Wanted(query, byDefault: false)
    let (target, cluster) = try kubernetesTarget(call.values[1], in: call.values[0])
    let words = query.all("command")
    guard !words.isEmpty else {
      throw Problem(
        400, "missing-field", "There is no command.", field: "command",
        remedy: "Name one, e.g. kubectl exec POD -- uname -a.")
    }
    var request = ExecRequest(.argv(words))
    request.hasInput = wanted.stdin
    request.outputLimit = jobs.configuration.outputLimit
    try JobOrder.check(request)
    var order = JobOrder(target: target, cluster: cluster, request: request)
    order.onDisconnect = .kill
    order.transport = try Self.container(try query.one("container"), pod: call.values[1])
    return (order, wanted)
  }

  /// The container `guest` leaves the way to us; the name of a transport chooses it.
  private static func container(_ name: String?, pod: String) throws(Problem) -> TransportName? {
    guard let name, !name.isEmpty, name != KubernetesObject.container else { return nil }
    guard let transport = TransportName(rawValue: name) else {
      throw Problem(
        400, "bad-container",
        "container \(name.prefix(80)) is not valid for pod \(pod.prefix(253)).",
        remedy:
          "There is '\(KubernetesObject.container)', or a transport: \(TransportName.allCases.map(\.rawValue).joined(separator: ", "))."
      )
    }
    return transport
  }

  /// A request for a command that isn't a websocket: clients from before Kubernetes 1.29 speak SPDY. What stands against
  /// the command itself is told first.
  private func refuseSPDY(_ call: Call, _ path: [String]) async throws(Problem) {
    try caller(call).demand(.exec)
    _ = try await pod(path[5], in: path[3])
    var problem = Problem(
      400, "upgrade-required",
      "Commands are streamed over websockets here, and SPDY is not spoken.",
      remedy:
        "Use kubectl 1.31 or later, or set KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true for 1.29 and 1.30. Where this is "
        + "such a kubectl, a proxy on the way does not let websockets through.")
    problem.headers = [("Upgrade", "websocket")]
    throw problem
  }

  // MARK: Answers

  private func list(
    _ kind: String, _ all: [KubernetesObject], _ selector: KubernetesSelector,
    _ table: KubernetesTable, _ request: HTTPRequest
  ) -> HTTPResponse {
    let chosen = all.filter { selector.matches($0) }
    if KubernetesTable.isWanted(request) { return .json(200, table.json(chosen)) }
    return .json(
      200,
      .object([
        "kind": .string(kind), "apiVersion": .string("v1"),
        "metadata": .object(["resourceVersion": .string("1")]),
        "items": .array(chosen.map(\.json)),
      ]))
  }

  private func one(
    _ object: KubernetesObject, _ table: KubernetesTable, _ request: HTTPRequest
  ) -> HTTPResponse {
    .json(200, KubernetesTable.isWanted(request) ? table.json([object]) : object.json)
  }
}

extension Target {
  /// Reads a pod's name: `qemu-100`, `lxc-200`, `node-pve1`, or a guest's name. Nil for what can't be one.
  init?(podName name: String) {
    let parts = name.split(separator: "-", maxSplits: 1)
    if parts.count == 2 {
      switch parts[0] {
      case "qemu": if let id = VMID(parts[1]) { self = .qemu(id); return }
      case "lxc": if let id = VMID(parts[1]) { self = .lxc(id); return }
      case "node": if let node = NodeName(parts[1]) { self = .node(node); return }
      default: break
      }
    }
    guard !name.contains("/"), let target = try? Target(name) else { return nil }
    self = target
  }

  /// The name where a guest was asked for by it: the pod then answers to it.
  var podName: String? { if case .name(let name) = self { name } else { nil } }
}
