import ConsoleProtocol
import GuestExec

/// What the job service is told.
package struct ExecConfiguration: Sendable {
  /// Where jobs and their output are stored; nil for a folder that goes with the process.
  package var dataFolder: String?
  /// Whether the folder was asked for: one that can't be used is an error then, and else only a warning.
  package var dataFolderIsChosen = false
  /// How long a job is kept after its end.
  package var keepFor: Duration = .seconds(7 * 86_400)
  /// Jobs that run at a time; more wait.
  package var maximumJobs = 256
  /// Jobs that wait; more are refused.
  package var maximumQueued = 10_000
  /// The most bytes of one stream of one job that are stored.
  package var outputLimit = 1 << 30
  /// The most bytes of output that all jobs together store. The oldest ended jobs go first.
  package var maximumBytes = 8 << 30
  /// JSON lines, one when a job starts and one when it is over; nil for none.
  package var auditFile: String?
  /// The defaults.
  package init() {}
}

/// Which ways to commands a cluster has.
package struct ClusterExec: Sendable {
  /// OpenSSH to the cluster's nodes.
  package struct SSH: Sendable, Hashable {
    /// The user on the nodes.
    package var user = "root"
    /// The private key's file.
    package var identityFile: String?
    /// The file with the nodes' host keys.
    package var knownHostsFile: String?
    /// The port on the nodes.
    package var port = 22
    /// Addresses by node; a node that isn't there is reached by its name.
    package var hosts: [String: String] = [:]
    /// What stands behind the name of a node that has no address.
    package var domain: String?
    /// Whether the user needs `sudo -n` for what needs root.
    package var sudo = false
    /// The defaults.
    package init() {}
  }

  /// Those that may be used; nil for all that the rest of the configuration makes possible.
  package var transports: [TransportName]?
  /// How long a guest's agent is waited for while the guest boots.
  package var agentWait: Duration = .seconds(120)
  /// How commands go through the agent.
  package var agentMode = AgentOptions.Mode.automatic
  /// OpenSSH; nil for none.
  package var ssh: SSH?
  /// The node that this machine is, where it is one.
  package var localNode: NodeName?
  /// The defaults.
  package init() {}
}
