import CSallyport
import ConsoleProtocol
import Glibc

/// A program to start as a child of ours. Nothing of our own environment gets into it, and no descriptor but its three
/// streams.
struct ChildProgram: Sendable {
  /// A path, or a name that is looked for in ``search``.
  var program: [UInt8]
  /// All arguments, the program's name first.
  var argv: [[UInt8]]
  /// The whole environment.
  var environment: [ExecRequest.Variable]
  /// Directories with colons between.
  var search = ChildProgram.standardPath
  /// Where it starts; nil for `/`.
  var directory: [UInt8]?
  /// Whom it runs as; nil for us.
  var user: LocalUser?
  /// A terminal of this size as its controlling terminal, for standard input and output.
  var terminal: TerminalSize?
  /// Whether standard error is a pipe of its own with a terminal too.
  var separateErrors = false
  /// Whether it is killed when we die, however that happens.
  var diesWithUs = false

  /// Root's path on Debian.
  static let standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

  init(_ argv: [[UInt8]], environment: [ExecRequest.Variable]) {
    program = argv.first ?? []
    self.argv = argv
    self.environment = environment
  }
}

/// Why a child did not become its program.
struct ChildFailure: Error, Sendable, Hashable {
  /// What could not be done.
  enum Step: Sendable, Hashable {
    /// Streams, memory, processes: something of ours.
    case preparing
    /// The program isn't there, or can't be run.
    case program
    /// We may not become that user.
    case user
    /// The working directory isn't there, or can't be entered.
    case directory
  }
  var step: Step
  /// The system's error number.
  var code: Int32

  /// The system's words.
  var reason: String { String(cString: strerror(code)) }
}

/// A user of this machine.
struct LocalUser: Sendable, Hashable {
  var name: String
  var uid: uid_t
  var gid: gid_t
  var groups: [gid_t]
  var home: String
  var shell: String

  /// A user by name; nil where there is none. Asks the system's databases, which may take long: not for a loop's thread.
  init?(_ name: String) {
    guard let entry = Self.entry({ getpwnam_r(name, $0, $1, $2, $3) }) else { return nil }
    self = entry
  }

  /// Whom we run as.
  static var current: LocalUser {
    entry { getpwuid_r(geteuid(), $0, $1, $2, $3) }
      ?? LocalUser(
        name: "\(geteuid())", uid: geteuid(), gid: getegid(), groups: [getegid()], home: "/",
        shell: "/bin/sh")
  }

  private init(
    name: String, uid: uid_t, gid: gid_t, groups: [gid_t], home: String, shell: String
  ) {
    self.name = name
    self.uid = uid
    self.gid = gid
    self.groups = groups
    self.home = home
    self.shell = shell
  }

  private static func entry(
    _ find: (
      UnsafeMutablePointer<passwd>, UnsafeMutablePointer<CChar>, Int,
      UnsafeMutablePointer<UnsafeMutablePointer<passwd>?>
    ) -> Int32
  ) -> LocalUser? {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 16 << 10) { buffer in
      guard let base = buffer.baseAddress else { return nil }
      var entry = passwd()
      var found: UnsafeMutablePointer<passwd>?
      guard find(&entry, base, buffer.count, &found) == 0, found != nil else { return nil }
      func text(_ pointer: UnsafeMutablePointer<CChar>?) -> String {
        pointer.map { String(cString: $0) } ?? ""
      }
      let name = text(entry.pw_name)
      var groups = [gid_t](repeating: 0, count: 256)
      let count = sp_groups(name, entry.pw_gid, &groups, Int32(groups.count))
      return LocalUser(
        name: name, uid: entry.pw_uid, gid: entry.pw_gid,
        groups: count < 0 ? groups : Array(groups.prefix(Int(count))), home: text(entry.pw_dir),
        shell: text(entry.pw_shell))
    }
  }
}

extension ChildProgram {
  /// Starts it with these descriptors. Waits until it has become its program, which is a matter of milliseconds: for a
  /// thread of one's own.
  func spawn(in input: Int32, out: Int32, err: Int32) throws(ChildFailure) -> pid_t {
    var step: Int32 = 0
    var code: Int32 = 0
    let variables = environment.map { $0.name + [UInt8(ascii: "=")] + $0.value }
    let pid = Self.withCStrings(argv) { argv in
      Self.withCStrings(variables) { envp in
        Self.withCStrings([program, Array(search.utf8), directory ?? [47]]) { texts in
          (user?.groups ?? []).withUnsafeBufferPointer { groups in
            var child = sp_child()
            child.path = UnsafePointer(texts[0])
            child.search = UnsafePointer(texts[1])
            child.directory = UnsafePointer(texts[2])
            child.directory_must = directory == nil ? 0 : 1
            child.argv = argv
            child.envp = envp
            child.in = input
            child.out = out
            child.err = err
            child.terminal = terminal == nil ? 0 : 1
            child.session = 1
            child.dies_with_us = diesWithUs ? 1 : 0
            if let user {
              child.change_user = 1
              child.uid = user.uid
              child.gid = user.gid
              child.groups = groups.baseAddress
              child.group_count = groups.count
            }
            let pid = sp_spawn_step(&child, &step)
            code = errno
            return pid
          }
        }
      }
    }
    guard pid < 0 else { return pid }
    let what: ChildFailure.Step =
      switch step {
      case 2: .program
      case 5: .user
      case 6: .directory
      default: .preparing
      }
    throw ChildFailure(step: what, code: code)
  }

  /// The texts as C strings, with a NULL behind them.
  private static func withCStrings<Result>(
    _ texts: [[UInt8]],
    _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
  ) -> Result {
    // One block with a NUL behind each text.
    var block: [CChar] = []
    var starts: [Int] = []
    for text in texts {
      starts.append(block.count)
      block.append(contentsOf: text.lazy.map { CChar(bitPattern: $0) })
      block.append(0)
    }
    block.append(0)
    return block.withUnsafeMutableBufferPointer { block in
      var pointers: [UnsafeMutablePointer<CChar>?] = starts.map { start in
        block.baseAddress.map { $0 + start }
      }
      pointers.append(nil)
      return pointers.withUnsafeBufferPointer { pointers in
        guard let base = pointers.baseAddress else { preconditionFailure("an array with a NULL") }
        return body(base)
      }
    }
  }
}
