import ProxmoxClient

/// What the facade says of itself: which kinds of objects there are.
enum KubernetesDiscovery {
  /// `GET /k8s/version`. Clients compare it with their own version and warn of more than one minor apart.
  static let version = JSONValue.object([
    "major": .string("1"), "minor": .string("32"), "gitVersion": .string("v1.32.0+sallyport"),
    "gitCommit": .string(""), "gitTreeState": .string("clean"), "buildDate": .string(""),
    "goVersion": .string(""), "compiler": .string("swift"), "platform": .string("linux/amd64"),
  ])

  /// `GET /k8s/api`
  static let versions = JSONValue.object([
    "kind": .string("APIVersions"), "versions": .array([.string("v1")]),
    "serverAddressByClientCIDRs": .array([]),
  ])

  /// `GET /k8s/apis`
  static let groups = JSONValue.object([
    "kind": .string("APIGroupList"), "apiVersion": .string("v1"), "groups": .array([]),
  ])

  /// `GET /k8s/api/v1`
  static let resources = JSONValue.object([
    "kind": .string("APIResourceList"), "groupVersion": .string("v1"),
    "resources": .array([
      resource("namespaces", "namespace", "Namespace", ["ns"], isNamespaced: false),
      resource("nodes", "node", "Node", ["no"], isNamespaced: false),
      resource("pods", "pod", "Pod", ["po"], isNamespaced: true),
      .object([
        "name": .string("pods/exec"), "singularName": .string(""), "namespaced": .bool(true),
        "kind": .string("PodExecOptions"), "verbs": .array([.string("create"), .string("get")]),
      ]),
    ]),
  ])

  private static func resource(
    _ name: String, _ singular: String, _ kind: String, _ short: [String], isNamespaced: Bool
  ) -> JSONValue {
    var out: [String: JSONValue] = [
      "name": .string(name), "singularName": .string(singular), "namespaced": .bool(isNamespaced),
      "kind": .string(kind), "verbs": .array([.string("get"), .string("list")]),
      "shortNames": .array(short.map { .string($0) }),
    ]
    if name == "pods" { out["categories"] = .array([.string("all")]) }
    return .object(out)
  }
}
