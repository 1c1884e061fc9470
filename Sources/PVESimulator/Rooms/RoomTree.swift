import CSallyport
import Glibc

/// The root file system of a room: a folder of this machine with what a small Debian has. Programs come from this
/// machine's `/usr`, read-only; `/etc`, `/root`, `/var`, `/run` and `/tmp` are the room's own.
struct RoomTree {
  /// A mount that the room's first process makes.
  struct Mount {
    var source: String
    /// Below the root, e.g. `/proc`.
    var target: String
    var type: String?
    var flags: UInt
    var data: String?
    var isOptional: Bool
  }

  /// The folder.
  let folder: String
  private(set) var mounts: [Mount] = []

  private static let bind = UInt(MS_BIND | MS_REC)
  private static let readOnly = UInt(MS_BIND | MS_REC | MS_RDONLY)

  /// Makes what is missing of it; a tree that was used before keeps its files.
  init(folder: String, hostName: String) {
    self.folder = folder
    let isNew = Glibc.access(folder + "/etc/passwd", F_OK) != 0
    for name in [
      "", "/usr", "/etc", "/root", "/home", "/srv", "/mnt", "/opt", "/var", "/var/log", "/var/tmp",
      "/var/lib", "/var/cache", "/run", "/run/lock", "/tmp", "/proc", "/sys", "/dev", "/dev/pts",
      "/dev/shm",
    ] {
      mkdir(folder + name, 0o755)
    }
    chmod(folder + "/tmp", 0o1777)
    chmod(folder + "/var/tmp", 0o1777)
    chmod(folder + "/root", 0o700)
    add("/usr", "/usr", flags: RoomTree.readOnly)
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] { addSystem(name) }
    addDevices()
    add("proc", "/proc", type: "proc", flags: UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC))
    // Through these root would reach this machine's kernel.
    for name in ["sys", "sysrq-trigger", "irq", "bus", "fs"] {
      add(
        folder + "/proc/" + name, "/proc/" + name, flags: RoomTree.readOnly, isOptional: true)
    }
    add(
      "sysfs", "/sys", type: "sysfs", flags: UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY),
      isOptional: true)
    if isNew { writeSettings(hostName) }
    for name in ["alternatives", "ssl", "terminfo"] where isFolder("/etc/" + name) {
      mkdir(folder + "/etc/" + name, 0o755)
      add("/etc/" + name, "/etc/" + name, flags: RoomTree.readOnly, isOptional: true)
    }
    touch("/etc/ld.so.cache")
    add("/etc/ld.so.cache", "/etc/ld.so.cache", flags: RoomTree.readOnly, isOptional: true)
  }

  private mutating func add(
    _ source: String, _ target: String, type: String? = nil, flags: UInt, data: String? = nil,
    isOptional: Bool = false
  ) {
    mounts.append(
      Mount(
        source: source, target: target, type: type, flags: flags, data: data,
        isOptional: isOptional))
  }

  /// `/bin` and its like are links into `/usr` on a new Debian, folders on an old one.
  private mutating func addSystem(_ name: String) {
    var target = [CChar](repeating: 0, count: 256)
    let n = readlink("/" + name, &target, 255)
    if n > 0 {
      let text = String(decoding: target.prefix(n).map { UInt8(bitPattern: $0) }, as: UTF8.self)
      symlink(text, folder + "/" + name)
    } else if isFolder("/" + name) {
      mkdir(folder + "/" + name, 0o755)
      add("/" + name, "/" + name, flags: RoomTree.readOnly)
    }
  }

  private mutating func addDevices() {
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
      touch("/dev/" + name)
      add("/dev/" + name, "/dev/" + name, flags: RoomTree.bind, isOptional: name != "null")
    }
    add(
      "devpts", "/dev/pts", type: "devpts", flags: UInt(MS_NOSUID | MS_NOEXEC),
      data: "newinstance,ptmxmode=0666,mode=0620")
    add(
      "tmpfs", "/dev/shm", type: "tmpfs", flags: UInt(MS_NOSUID | MS_NODEV),
      data: "mode=1777,size=64m", isOptional: true)
    symlink("pts/ptmx", folder + "/dev/ptmx")
    symlink("/proc/self/fd", folder + "/dev/fd")
    for (i, name) in ["stdin", "stdout", "stderr"].enumerated() {
      symlink("/proc/self/fd/\(i)", folder + "/dev/" + name)
    }
  }

  private func writeSettings(_ hostName: String) {
    write("/etc/hostname", hostName + "\n")
    write("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 \(hostName)\n::1 localhost ip6-localhost\n")
    write(
      "/etc/passwd",
      """
      root:x:0:0:root:/root:/bin/bash
      daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
      www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
      nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin

      """)
    write("/etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n")
    write(
      "/etc/shadow",
      "root:*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\n"
        + "nobody:*:19000:0:99999:7:::\n")
    chmod(folder + "/etc/shadow", 0o640)
    write("/etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    write("/etc/shells", "/bin/sh\n/bin/bash\n")
    write("/etc/resolv.conf", "")
    write(
      "/etc/profile",
      "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        + "PS1='\\u@\\h:\\w\\$ '\n")
    write("/etc/machine-id", randomUUID().filter { $0 != "-" } + "\n")
    symlink("/proc/self/mounts", folder + "/etc/mtab")
    // The programs are this machine's, so its system is the truth.
    if Glibc.access("/usr/lib/os-release", R_OK) == 0 {
      symlink("../usr/lib/os-release", folder + "/etc/os-release")
    } else {
      write("/etc/os-release", "ID=linux\nNAME=Linux\nPRETTY_NAME=Linux\n")
    }
  }

  private func write(_ name: String, _ text: String) {
    let descriptor = open(folder + name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { return }
    _ = Array(text.utf8).withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
    close(descriptor)
  }

  private func touch(_ name: String) {
    let descriptor = open(folder + name, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
    if descriptor >= 0 { close(descriptor) }
  }

  private func isFolder(_ path: String) -> Bool {
    var about = stat()
    return lstat(path, &about) == 0 && about.st_mode & S_IFMT == S_IFDIR
  }
}
