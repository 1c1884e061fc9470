import ConsoleProtocol
import Glibc
import GuestExec

extension ConfigurationBuilder {
  /// The job service's section.
  func exec(
    _ section: ConfigurationFile.Exec?
  ) throws(ConfigurationError) -> ExecConfiguration {
    var out = ExecConfiguration()
    if let folder = section?.dataFolder {
      guard !folder.isEmpty else {
        throw ConfigurationError("exec.dataFolder", "is empty", remedy: "It takes a folder's path")
      }
      out.dataFolder = secrets.resolve(folder)
      out.dataFolderIsChosen = true
    } else {
      out.dataFolder = Self.usualFolder(secrets.environment)
    }
    guard let section else { return out }
    if let v = section.keepFor { out.keepFor = try seconds(v, "exec.keepFor") }
    if let v = section.maximumJobs {
      out.maximumJobs = try count(v, "exec.maximumJobs", 1...100_000)
    }
    if let v = section.maximumQueued {
      out.maximumQueued = try count(v, "exec.maximumQueued", 0...1_000_000)
    }
    if let v = section.outputLimit {
      out.outputLimit = try count(v, "exec.outputLimit", 1024...(1 << 50))
    }
    if let v = section.maximumBytes {
      out.maximumBytes = try count(v, "exec.maximumBytes", 1 << 20...(1 << 50))
    }
    out.auditFile = section.auditFile.map { secrets.resolve($0) }
    return out
  }

  /// Where a service keeps what it has to find again: systemd's word, else the XDG base directories'.
  static func usualFolder(_ environment: [String: String]) -> String? {
    func absolute(_ name: String) -> String? {
      guard let value = environment[name]?.split(separator: ":").first, value.hasPrefix("/") else {
        return nil
      }
      return String(value)
    }
    if let folder = absolute("STATE_DIRECTORY") { return folder + "/jobs" }
    if let folder = absolute("XDG_STATE_HOME") { return folder + "/sallyport/jobs" }
    // A service's user often has a home that isn't there; nobody should find one made by us.
    guard let home = absolute("HOME"), access(home, W_OK) == 0 else { return nil }
    return home + "/.local/state/sallyport/jobs"
  }

  /// A cluster's ways to commands.
  mutating func clusterExec(
    _ section: ConfigurationFile.ClusterExecSection, at field: String
  ) throws(ConfigurationError) -> ClusterExec {
    var out = ClusterExec()
    if let list = section.transports {
      var names: [TransportName] = []
      for (i, word) in list.enumerated() {
        guard let name = TransportName(rawValue: word) else {
          throw ConfigurationError(
            "\(field).transports[\(i)]", "there is no transport '\(word.prefix(40))'",
            remedy:
              "There are: \(TransportName.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        guard !names.contains(name) else {
          throw ConfigurationError(
            "\(field).transports[\(i)]", "'\(word)' comes twice", remedy: "Keep one")
        }
        names.append(name)
      }
      out.transports = names
    }
    if let v = section.agentWait {
      guard v >= 0, v <= 3600 else {
        throw ConfigurationError(
          "\(field).agentWait", "\(v) is out of range",
          remedy: "It takes a number of seconds up to 3600; 0 to not wait")
      }
      out.agentWait = .milliseconds(Int(v * 1000))
    }
    if let word = section.agentMode {
      guard let mode = AgentOptions.Mode(rawValue: word) else {
        throw ConfigurationError(
          "\(field).agentMode", "there is no mode '\(word.prefix(40))'",
          remedy:
            "There are: \(AgentOptions.Mode.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      out.agentMode = mode
    }
    if let ssh = section.ssh { out.ssh = try self.ssh(ssh, at: "\(field).ssh") }
    if let text = section.localNode {
      guard let node = NodeName(text) else {
        throw ConfigurationError(
          "\(field).localNode", "'\(text.prefix(80))' is no node's name",
          remedy: "It takes the name that PVE gives this machine, e.g. \"pve1\"")
      }
      out.localNode = node
    }
    if let names = out.transports {
      if names.contains(.ssh), out.ssh == nil {
        throw ConfigurationError(
          "\(field).transports", "has ssh, and \(field).ssh is missing",
          remedy: "Add ssh: {identityFile: PATH, knownHostsFile: PATH}")
      }
      if names.contains(.local), out.localNode == nil {
        throw ConfigurationError(
          "\(field).transports", "has local, and \(field).localNode is missing",
          remedy: "Add the name that PVE gives this machine")
      }
    }
    return out
  }

  private mutating func ssh(
    _ section: ConfigurationFile.SSH, at field: String
  ) throws(ConfigurationError) -> ClusterExec.SSH {
    var out = ClusterExec.SSH()
    if let user = section.user {
      guard !user.isEmpty, !user.hasPrefix("-"), user.utf8.allSatisfy({ $0 > 32 && $0 != 127 })
      else {
        throw ConfigurationError(
          "\(field).user", "'\(user.prefix(80))' is no user's name",
          remedy: "It takes a name such as \"root\"")
      }
      out.user = user
    }
    out.identityFile = try section.identityFile.map { path throws(ConfigurationError) in
      try secrets.mustBeReadable(path, field: "\(field).identityFile")
    }
    out.knownHostsFile = try section.knownHostsFile.map { path throws(ConfigurationError) in
      try secrets.mustBeReadable(path, field: "\(field).knownHostsFile")
    }
    if let port = section.port { out.port = try count(port, "\(field).port", 1...65535) }
    if let domain = section.domain {
      guard !domain.isEmpty, domain.utf8.allSatisfy({ $0 > 32 && $0 != 127 }) else {
        throw ConfigurationError(
          "\(field).domain", "'\(domain.prefix(80))' is no domain",
          remedy: "It takes one such as \"example.org\"")
      }
      out.domain = domain.hasPrefix(".") ? String(domain.dropFirst()) : domain
    }
    out.sudo = section.sudo ?? false
    for (node, host) in (section.hosts ?? [:]).sorted(by: { $0.key < $1.key }) {
      guard NodeName(node) != nil else {
        throw ConfigurationError(
          "\(field).hosts.\(node.prefix(80))", "is no node's name",
          remedy: "It takes names as PVE has them, e.g. {pve1: 192.0.2.1}")
      }
      guard !host.isEmpty, !host.hasPrefix("-"), host.utf8.allSatisfy({ $0 > 32 && $0 != 127 })
      else {
        throw ConfigurationError(
          "\(field).hosts.\(node)", "'\(host.prefix(80))' is no address",
          remedy: "It takes a name or address such as 192.0.2.1")
      }
      out.hosts[node] = host
    }
    return out
  }

  /// What a key may do.
  func rights(
    _ list: [String]?, _ field: String
  ) throws(ConfigurationError) -> Set<APIRight> {
    guard let list else { return APIRight.usual }
    var out: Set<APIRight> = []
    for (i, word) in list.enumerated() {
      guard let right = APIRight(rawValue: word) else {
        throw ConfigurationError(
          "\(field).rights[\(i)]", "there is no right '\(word.prefix(40))'",
          remedy: "There are: \(APIRight.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      out.insert(right)
    }
    return out
  }
}
