import Glibc

/// What the built-in agent tells of a guest: the truth about its room, and its configuration's numbers.
struct GuestFacts {
  /// What Linux handles memory in, on machines of this size.
  static let memoryBlock = 128 << 20

  var cores: Int
  /// Bytes.
  var memory: Int

  var processors: JSON {
    .array(
      (0..<max(1, cores)).map { i in
        ["logical-id": .int(i), "online": .bool(true), "can-offline": .bool(i > 0)]
      })
  }

  var memoryBlocks: JSON {
    .array(
      (0..<max(1, memory / GuestFacts.memoryBlock)).map { i in
        ["phys-index": .int(i), "online": .bool(true), "can-offline": .bool(true)]
      })
  }

  var timeZone: JSON {
    var now = time(nil)
    var parts = tm()
    localtime_r(&now, &parts)
    let zone = parts.tm_zone.map { String(cString: $0) } ?? "UTC"
    return ["zone": .string(zone), "offset": .int(parts.tm_gmtoff)]
  }

  /// The kernel's names, and what `/etc/os-release` says.
  func system(_ room: Room) -> JSON {
    var names = utsname()
    uname(&names)
    func text<T>(_ value: T) -> JSON {
      .string(
        withUnsafeBytes(of: value) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
    }
    var members: [JSON.Member] = [
      .init(key: "kernel-release", value: text(names.release)),
      .init(key: "kernel-version", value: text(names.version)),
      .init(key: "machine", value: text(names.machine)),
    ]
    let wanted = [
      "ID": "id", "NAME": "name", "PRETTY_NAME": "pretty-name", "VERSION": "version",
      "VERSION_ID": "version-id", "VARIANT": "variant", "VARIANT_ID": "variant-id",
    ]
    for line in lines("/etc/os-release", room) {
      let halves = line.split(separator: "=", maxSplits: 1)
      guard halves.count == 2, let key = wanted[String(halves[0])] else { continue }
      let value = halves[1].trimming("\"").trimming("'")
      members.append(.init(key: key, value: .string(String(value))))
    }
    return .object(members)
  }

  /// Names in `/etc/passwd`.
  func users(_ room: Room) -> [String] {
    lines("/etc/passwd", room).compactMap { $0.split(separator: ":").first.map(String.init) }
  }

  func fileSystems(_ room: Room) -> JSON {
    var about = statvfs()
    let root = room.open("/", O_RDONLY | O_DIRECTORY)
    guard root >= 0 else { return .array([]) }
    defer { close(root) }
    guard fstatvfs(root, &about) == 0 else { return .array([]) }
    let block = Int(about.f_frsize)
    return .array([
      [
        "name": "sda1", "mountpoint": "/", "type": "ext4",
        "total-bytes": .int(block * Int(about.f_blocks)),
        "used-bytes": .int(block * Int(about.f_blocks - about.f_bfree)),
        "disk": [
          [
            "bus-type": "scsi", "bus": 0, "target": 0, "unit": 0, "dev": "/dev/sda1",
            "pci-controller": ["domain": 0, "bus": 0, "slot": 5, "function": 0],
          ]
        ],
      ]
    ])
  }

  /// The interfaces of the room's network, by `/proc/net`: a room with walls has its loopback and no other.
  func interfaces(_ room: Room) -> JSON {
    guard case .namespaces(let first, _) = room.walls else { return .array([loopback([])]) }
    var counters: [Int] = []
    for line in GuestFacts.read("/proc/\(first)/net/dev").split(separator: "\n") {
      let halves = line.split(separator: ":")
      guard halves.count == 2, halves[0].trimming(" ") == "lo" else { continue }
      counters = halves[1].split(separator: " ").compactMap { Int($0) }
    }
    return .array([loopback(counters)])
  }

  private func loopback(_ n: [Int]) -> JSON {
    func at(_ i: Int) -> JSON { .int(i < n.count ? n[i] : 0) }
    return [
      "name": "lo", "hardware-address": "00:00:00:00:00:00",
      "ip-addresses": [
        ["ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8],
        ["ip-address-type": "ipv6", "ip-address": "::1", "prefix": 128],
      ],
      "statistics": [
        "rx-bytes": at(0), "rx-packets": at(1), "rx-errs": at(2), "rx-dropped": at(3),
        "tx-bytes": at(8), "tx-packets": at(9), "tx-errs": at(10), "tx-dropped": at(11),
      ],
    ]
  }

  private func lines(_ path: String, _ room: Room) -> [Substring] {
    let descriptor = room.open(path, O_RDONLY)
    guard descriptor >= 0 else { return [] }
    defer { close(descriptor) }
    return GuestFacts.read(descriptor).split(separator: "\n")
  }

  private static func read(_ path: String) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "" }
    defer { close(descriptor) }
    return read(descriptor)
  }

  private static func read(_ descriptor: Int32) -> String {
    var bytes = [UInt8](repeating: 0, count: 65_536)
    let n = Glibc.read(descriptor, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, n)), as: UTF8.self)
  }
}

extension Substring {
  /// Without a character at both ends.
  fileprivate func trimming(_ c: Character) -> Substring {
    var out = self
    while out.first == c { out.removeFirst() }
    while out.last == c { out.removeLast() }
    return out
  }
}
