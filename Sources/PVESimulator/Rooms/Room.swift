import CSallyport
import Glibc

/// Where the programs of one guest run: namespaces of their own with a root file system, where the kernel lets us,
/// else this machine as it is, with a mark in the environment by which everything that was started is found again.
///
/// The first process of the namespaces reaps orphans and holds them open; everything in them dies with it.
final class Room {
  /// What separates the guest from this machine.
  enum Walls {
    /// Namespaces, held by their first process.
    case namespaces(first: pid_t, user: Bool)
    /// None; the value of ``Room/variable`` in the environment of all its processes.
    case mark(String)
  }

  /// The environment variable by which the processes of a room without walls are found.
  static let variable = "SALLYPORT_GUEST"

  let walls: Walls
  /// The guest's name.
  let hostName: String
  /// Where its files lie on this machine; nil without walls.
  let folder: String?
  /// Told when its first process ends by itself.
  var ended: (() -> Void)?
  private let children: ChildKeeper
  private var isOpen = true

  /// Opens a room.
  /// - Parameter folder: its root; kept when the room closes, so that the next one finds its files.
  init(folder: String, hostName: String, children: ChildKeeper) {
    self.hostName = hostName
    self.children = children
    let user: Bool
    switch RoomAbility.here {
    case .namespaces(let withUser): user = withUser
    case .none:
      walls = .mark(randomUUID())
      self.folder = nil
      return
    }
    let tree = RoomTree(folder: folder, hostName: hostName)
    guard case .success(let pid) = Room.open(tree, hostName: hostName, user: user) else {
      walls = .mark(randomUUID())
      self.folder = nil
      return
    }
    walls = .namespaces(first: pid, user: user)
    self.folder = folder
    children.watch(pid, mark: nil) { [weak self] _ in
      guard let self, self.isOpen else { return }
      self.isOpen = false
      self.ended?()
    }
  }

  /// The first process: it does nothing but reap.
  private static let first = """
    trap '' HUP INT QUIT
    trap 'exit 0' TERM
    while :; do sleep 2147483647 & wait; done

    """

  /// Why a room could not be opened.
  struct Refusal: Error {
    var step: Int
    var reason: String
  }

  static func open(_ tree: RoomTree, hostName: String, user: Bool) -> Result<pid_t, Refusal> {
    let script = sp_memory_file("init", first)
    let null = Glibc.open("/dev/null", O_RDWR | O_CLOEXEC)
    defer {
      if script >= 0 { Glibc.close(script) }
      if null >= 0 { Glibc.close(null) }
    }
    guard script >= 0, null >= 0 else {
      return .failure(Refusal(step: 0, reason: String(cString: strerror(errno))))
    }
    var texts: [UnsafeMutablePointer<CChar>?] = []
    func keep(_ text: String?) -> UnsafePointer<CChar>? {
      guard let copy = text.flatMap({ strdup($0) }) else { return nil }
      texts.append(copy)
      return UnsafePointer(copy)
    }
    defer { for text in texts { free(text) } }
    var mounts = tree.mounts.map { mount in
      sp_mount(
        source: keep(mount.source), target: keep(tree.folder + mount.target),
        type: keep(mount.type), flags: mount.flags, data: keep(mount.data),
        optional: mount.isOptional ? 1 : 0)
    }
    mounts.append(sp_mount())
    var step: Int32 = 0
    let pid = CStrings(["/sbin/init"]).with { argv in
      CStrings(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "container=lxc"]).with { envp in
        mounts.withUnsafeBufferPointer { mounts in
          var room = sp_room()
          room.root = keep(tree.folder)
          room.host_name = keep(hostName)
          room.mounts = mounts.baseAddress
          room.user = user ? 1 : 0
          room.path = keep("/bin/sh")
          room.argv = argv
          room.envp = envp
          room.in = script
          room.out = null
          return sp_room_start(&room, &step)
        }
      }
    }
    guard pid > 0 else {
      return .failure(Refusal(step: Int(step), reason: String(cString: strerror(errno))))
    }
    return .success(pid)
  }

  // MARK: programs

  /// Whether it has namespaces.
  var isWalled: Bool { folder != nil }

  /// What `hostname` says in it.
  var shownHostName: String {
    if isWalled { return hostName }
    var name = [CChar](repeating: 0, count: 256)
    gethostname(&name, 255)
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Root's home in it.
  var home: String { isWalled ? "/root" : Shells.home }

  /// Starts a program in it.
  /// - Returns: its pid, or the system's error number.
  func spawn(_ command: Command, in input: Int32, out: Int32, err: Int32, terminal: Bool)
    -> Result<pid_t, SpawnError>
  {
    var command = command
    var first: pid_t = 0
    var user = false
    switch walls {
    case .namespaces(let pid, let withUser):
      guard isOpen else { return .failure(SpawnError(code: ESRCH)) }
      first = pid
      user = withUser
    case .mark(let mark): command.environment[Room.variable] = mark
    }
    return command.spawn(
      in: input, out: out, err: err, terminal: terminal, room: first, roomHasUser: user)
  }

  /// A new terminal, of its own where it has walls.
  func openTerminal(columns: Int, rows: Int) -> (master: Int32, slave: Int32)? {
    var master: Int32 = -1
    var slave: Int32 = -1
    let (c, r) = (UInt16(clamping: columns), UInt16(clamping: rows))
    let result =
      if case .namespaces(let first, _) = walls {
        sp_open_pty_in(first, &master, &slave, c, r)
      } else {
        sp_open_pty(&master, &slave, c, r)
      }
    return result == 0 ? (master, slave) : nil
  }

  /// Opens a file as a program in it would, links and all.
  /// - Returns: the descriptor; -1 with `errno`.
  func open(_ path: String, _ flags: Int32, mode: mode_t = 0o666) -> Int32 {
    guard case .namespaces(let first, _) = walls else {
      return Glibc.open(path, flags | O_CLOEXEC | O_NOCTTY, mode)
    }
    return sp_open_in(first, path, flags, mode)
  }

  /// A process's number as the programs in it see it.
  func innerPID(of pid: pid_t) -> pid_t {
    guard isWalled else { return pid }
    let descriptor = Glibc.open("/proc/\(pid)/status", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return pid }
    defer { Glibc.close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let n = read(descriptor, &bytes, bytes.count)
    let text = String(decoding: bytes.prefix(max(0, n)), as: UTF8.self)
    let line = text.split(separator: "\n").first { $0.hasPrefix("NSpid:") }
    return line?.split(whereSeparator: \.isWhitespace).last.flatMap { pid_t($0) } ?? pid
  }

  /// Ends every process in it. Its files stay.
  func close() {
    guard isOpen else { return }
    isOpen = false
    switch walls {
    case .namespaces(let first, _): kill(first, SIGKILL)
    case .mark(let mark): ChildKeeper.killAll(marked: "\(Room.variable)=\(mark)")
    }
    children.reapSoon()
  }
}

/// Whether this machine and user may make rooms with walls; found out by making one, once a process.
enum RoomAbility: Sendable {
  /// With a user namespace where we are not root.
  case namespaces(user: Bool)
  /// Not at all; why.
  case none(String)

  static let here: RoomAbility = {
    if let wish = getenv("SALLYPORT_NAMESPACES"), String(cString: wish) == "0" {
      return .none("SALLYPORT_NAMESPACES=0")
    }
    var reason = ""
    for user in geteuid() == 0 ? [false, true] : [true] {
      guard let folder = TemporaryFolder.make("sallyport-try") else {
        return .none("there is no temporary folder")
      }
      defer { sp_remove_tree(folder) }
      switch Room.open(RoomTree(folder: folder, hostName: "try"), hostName: "try", user: user) {
      case .success(let pid):
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
        return .namespaces(user: user)
      case .failure(let refusal): reason = refusal.reason
      }
    }
    return .none(reason)
  }()

  /// For the banner.
  var sentence: String {
    switch self {
    case .namespaces(let user):
      "Containers, and VMs that are no real QEMU, are process trees in namespaces\(user ? " of your user" : ""), with "
        + "root file systems of their own"
    case .none(let why):
      "Containers, and VMs that are no real QEMU, are process trees of this machine, without walls (\(why))"
    }
  }
}

/// Folders below `$TMPDIR`.
enum TemporaryFolder {
  /// `$TMPDIR`, or `/tmp`.
  static var base: String { getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp" }

  /// Makes one that only we may enter; nil where that fails.
  static func make(_ prefix: String) -> String? {
    var template = Array("\(base)/\(prefix)-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { return nil }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
