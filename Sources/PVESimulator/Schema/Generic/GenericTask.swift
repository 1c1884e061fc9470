/// The task of a generic operation: it does nothing, and succeeds.
struct GenericTask {
  private let call: GenericCall

  init(_ call: GenericCall) { self.call = call }

  /// Starts it and gives its UPID.
  func run() -> String {
    call.node.run(type, id: id, user: call.arguments.authID) { run in
      run.after(call.node.timings.task) { $0.finish() }
    }
  }

  /// The value of the path's last parameter that isn't the node.
  private var id: String {
    let parameters = call.schema.path.split(separator: "/").filter {
      $0.hasPrefix("{") && $0 != "{node}"
    }
    guard let last = parameters.last else { return "" }
    let text = call.arguments.text(String(last.dropFirst().dropLast())) ?? ""
    return String(text.map { $0 == ":" || $0 == "/" ? "-" : $0 })
  }

  /// What PVE calls it.
  private var type: String {
    let path = call.schema.path
    let parts = path.split(separator: "/").filter { !$0.hasPrefix("{") }.map(String.init)
    let last = parts.last ?? ""
    let removes = call.schema.method == "DELETE"
    if path.hasPrefix("/nodes/{node}/services/") { return "srv" + last }
    if path.hasPrefix("/nodes/{node}/disks/") {
      switch last {
      case "directory": return removes ? "dirremove" : "dircreate"
      case "initgpt": return "diskinit"
      case "wipedisk": return "wipedisk"
      default: return last + (removes ? "remove" : "create")
      }
    }
    switch path {
    case "/cluster/acme/account": return "acmeregister"
    case "/cluster/acme/account/{name}": return removes ? "acmedeactivate" : "acmeupdate"
    case "/nodes/{node}/certificates/acme/certificate":
      switch call.schema.method {
      case "POST": return "acmenewcert"
      case "PUT": return "acmerenew"
      default: return "acmerevoke"
      }
    case "/nodes/{node}/apt/update": return "aptupdate"
    case "/nodes/{node}/aplinfo": return "download"
    case "/nodes/{node}/network": return "srvreload"
    case "/cluster/sdn": return "reloadnetworkall"
    case "/cluster/config": return "clustercreate"
    case "/cluster/config/join": return "clusterjoin"
    default: break
    }
    if parts.contains("ceph") {
      let subject = parts.last { $0 != "ceph" } ?? ""
      return "ceph" + (removes ? "destroy" : call.schema.method == "POST" ? "create" : "set")
        + subject
    }
    if parts.contains("bulk-action") { return "bulk" + last }
    return String(last.filter { $0.isLetter || $0.isNumber })
  }
}
