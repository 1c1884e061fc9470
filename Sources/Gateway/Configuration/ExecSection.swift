extension ConfigurationFile {
  /// `exec`: the job service.
  struct Exec: Decodable {
    var dataFolder: String?
    var keepFor: Double?
    var maximumJobs: Int?
    var maximumQueued: Int?
    var outputLimit: Int?
    var maximumBytes: Int?
    var auditFile: String?

    init() {}

    enum CodingKeys: String, CodingKey, CaseIterable {
      case dataFolder, keepFor, maximumJobs, maximumQueued, outputLimit, maximumBytes, auditFile
    }

    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      dataFolder = try fields.read(.dataFolder, "a folder's path")
      keepFor = try fields.read(.keepFor, "a number of seconds such as 604800")
      maximumJobs = try fields.read(.maximumJobs, "a number such as 256")
      maximumQueued = try fields.read(.maximumQueued, "a number such as 10000")
      outputLimit = try fields.read(.outputLimit, "a number of bytes such as 1073741824")
      maximumBytes = try fields.read(.maximumBytes, "a number of bytes such as 8589934592")
      auditFile = try fields.read(.auditFile, "a file's path")
    }
  }

  /// `exec` of a cluster: the ways to commands.
  struct ClusterExecSection: Decodable {
    var transports: [String]?
    var agentWait: Double?
    var agentMode: String?
    var ssh: SSH?
    var localNode: String?

    init() {}

    enum CodingKeys: String, CodingKey, CaseIterable {
      case transports, agentWait, agentMode, ssh, localNode
    }

    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      transports = try fields.read(.transports, "a list such as [agent, shell, ssh]")
      agentWait = try fields.read(.agentWait, "a number of seconds such as 120")
      agentMode = try fields.read(.agentMode, "automatic, plain or streaming")
      ssh = try fields.read(.ssh, "user, identityFile, knownHostsFile, port and hosts")
      localNode = try fields.read(.localNode, "a node's name such as \"pve1\"")
    }
  }

  /// OpenSSH to a cluster's nodes.
  struct SSH: Decodable {
    var user: String?
    var identityFile: String?
    var knownHostsFile: String?
    var port: Int?
    var hosts: [String: String]?
    var domain: String?
    var sudo: Bool?

    init() {}

    enum CodingKeys: String, CodingKey, CaseIterable {
      case user, identityFile, knownHostsFile, port, hosts, domain, sudo
    }

    init(from decoder: any Decoder) throws {
      let fields = try StrictFields(decoder, keys: CodingKeys.self)
      user = try fields.read(.user, "a user's name such as \"root\"")
      identityFile = try fields.read(.identityFile, "a private key's path")
      knownHostsFile = try fields.read(.knownHostsFile, "a file's path, as OpenSSH writes it")
      port = try fields.read(.port, "a port such as 22")
      domain = try fields.read(.domain, "a domain such as \"example.org\"")
      sudo = try fields.read(.sudo, "true or false")
      hosts = try fields.read(.hosts, "addresses by node such as {pve1: 192.0.2.1}")
    }
  }
}
