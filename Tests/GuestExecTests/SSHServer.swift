import CSallyport
import ConsoleProtocol
import Glibc
import Synchronization

@testable import GuestExec

/// A real sshd of this machine on a loopback port of its own, with its own keys, ended when the test process ends.
final class SSHServer: Sendable {
  let folder: String
  let port: Int
  let child: Child
  let transport: SSHTransport

  /// Why there is none here; nil where there is.
  static let whyNot: String? =
    if access("/usr/sbin/sshd", X_OK) != 0 {
      "There is no /usr/sbin/sshd (Debian: openssh-server)."
    } else if LocalTransport.find("ssh") == nil || LocalTransport.find("ssh-keygen") == nil {
      "There is no OpenSSH client (Debian: openssh-client)."
    } else if geteuid() != 0, access("/run/sshd", X_OK) != 0 {
      "sshd wants the folder /run/sshd, which only root can make."
    } else {
      nil
    }

  private static let one = Task { try await SSHServer() }
  /// The one that most tests share.
  static func shared() async throws -> SSHServer { try await one.value }

  var log: String { folder + "/log" }
  var identity: String { folder + "/key" }
  var hostKey: String {
    Tools.read(folder + "/host.pub").split(separator: " ").prefix(2).joined(separator: " ")
  }

  /// How tests get there: its key pinned, `pct` from the tests' folder.
  var options: SSHOptions {
    SSHOptions(
      hosts: [.one: "127.0.0.1"], user: LocalUser.current.name, port: port, identityFile: identity,
      hostKeys: [.one: [hostKey]], connectTimeout: .seconds(20))
  }

  /// - Parameters:
  ///   - configuration: more lines for `sshd_config`; the first of a kind counts, so these win.
  ///   - path: the sessions' `PATH`.
  init(configuration: String = "", path: String? = nil) async throws {
    if let why = SSHServer.whyNot { throw SetUpFailure(what: why) }
    if geteuid() == 0 { mkdir("/run/sshd", 0o755) }
    folder = try Tools.newFolder()
    for name in ["host", "key"] {
      try await runTool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "\(folder)/\(name)"])
    }
    try Tools.write(Tools.read("\(folder)/key.pub"), to: "\(folder)/authorized", mode: 0o600)
    let path = try path ?? Tools.shared().folder + ":" + ChildProgram.standardPath
    var found: (Int, Child)?
    for _ in 0..<5 where found == nil {
      let port = try SSHServer.freePort()
      try Tools.write(
        """
        \(configuration)
        ListenAddress 127.0.0.1
        Port \(port)
        HostKey \(folder)/host
        AuthorizedKeysFile \(folder)/authorized
        PidFile none
        UsePAM no
        StrictModes no
        PermitRootLogin yes
        PasswordAuthentication no
        KbdInteractiveAuthentication no
        SetEnv PATH=\(path)
        LogLevel VERBOSE
        MaxStartups 100
        """, to: "\(folder)/config", mode: 0o600)
      var program = ChildProgram(
        ["/usr/sbin/sshd", "-D", "-f", "\(folder)/config", "-E", "\(folder)/log"]
          .map { Array($0.utf8) }, environment: LocalEnvironment.base(of: .current))
      program.diesWithUs = true
      let listener = Quiet()
      let child = try await Child.start(program, handler: listener)
      let end = ContinuousClock.now + .seconds(20)
      while !listener.hasEnded, ContinuousClock.now < end {
        if Tools.read("\(folder)/log").contains("Server listening") {
          found = (port, child)
          break
        }
        try await Task.sleep(for: .milliseconds(10))
      }
    }
    guard let found else {
      throw SetUpFailure(what: "sshd did not start: \(Tools.read("\(folder)/log"))")
    }
    (port, child) = found
    transport = SSHTransport(
      options: SSHOptions(
        hosts: [.one: "127.0.0.1"], user: LocalUser.current.name, port: port,
        identityFile: "\(folder)/key",
        hostKeys: [
          .one: [
            Tools.read(folder + "/host.pub").split(separator: " ").prefix(2)
              .joined(separator: " ")
          ]
        ], connectTimeout: .seconds(20)))
  }

  func stop() { child.signal(SIGKILL) }

  /// How many logins it has seen.
  var logins: Int { Tools.read(log).components("Accepted publickey") }

  /// A port on which nobody listens.
  static func freePort() throws -> Int {
    let descriptor = socket(AF_INET, sp_stream_type(), 0)
    guard descriptor >= 0 else { throw SetUpFailure(what: "socket") }
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let done = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, size) == 0 && getsockname(descriptor, $0, &size) == 0
      }
    }
    guard done else { throw SetUpFailure(what: "bind") }
    return Int(UInt16(bigEndian: address.sin_port))
  }
}

extension String {
  fileprivate func components(_ wanted: String) -> Int {
    var count = 0
    var rest = self[...]
    while let range = rest.firstRange(of: wanted) {
      count += 1
      rest = rest[range.upperBound...]
    }
    return count
  }
}

/// Takes what a child says and drops it.
final class Quiet: ChildHandler {
  private let ended = Atomic<Bool>(false)
  var hasEnded: Bool { ended.load(ordering: .relaxed) }
  func child(_ child: Child, wrote bytes: [UInt8], to stream: Child.Output) -> Bool { true }
  func child(_ child: Child, ended end: Child.End) { ended.store(true, ordering: .relaxed) }
}
