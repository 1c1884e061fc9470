/// Rows of lists with guests, nodes and storages in them. They are written straight into bytes: lists of ten thousand
/// guests have to be there in a moment.
extension RowWriter {
  /// Numbers that a guest shows while it runs; the same for a guest as long as it does.
  private static let loads: [StaticString] = [
    "0.0236471979892318", "0.00412087912087912", "0.114285714285714", "0.0526315789473684",
    "0.0091324200913242", "0.382716049382716", "0.0172413793103448", "0.0714285714285714",
  ]

  private mutating func cpu(_ guest: Guest) {
    guard guest.isRunning, !guest.isPaused else {
      field("cpu", 0)
      return
    }
    number("cpu", RowWriter.loads[guest.vmid & 7])
  }

  private mutating func traffic(_ guest: Guest) {
    let seconds = guest.uptime
    field("netin", seconds * (900 + guest.vmid % 977))
    field("netout", seconds * (120 + guest.vmid % 211))
    field("diskread", seconds * (3_100 + guest.vmid % 1_013))
    field("diskwrite", seconds * (1_700 + guest.vmid % 797))
  }

  private mutating func memory(_ guest: Guest) {
    let about = guest.description
    let used = guest.isRunning ? about.memory / 3 : 0
    field("mem", used)
    field("maxmem", about.memory)
  }

  private mutating func labels(_ guest: Guest) {
    let tags = guest.description.tags
    if !tags.isEmpty { field("tags", tags.joined(separator: ";")) }
    if let lock = guest.lock { field("lock", lock) }
  }

  // MARK: guests

  /// A row of `GET /nodes/{node}/qemu` and `/lxc`, without its braces: also the beginning of `status/current`.
  mutating func members(of guest: Guest, era: Era, isFull: Bool) {
    let about = guest.description
    field("vmid", guest.vmid)
    field("name", about.name)
    field("status", word: guest.isRunning ? "running" : "stopped")
    field("uptime", guest.uptime)
    field("cpus", about.cores)
    cpu(guest)
    memory(guest)
    field("disk", guest.kind == .lxc && guest.isRunning ? guest.diskSize / 5 : 0)
    field("maxdisk", guest.diskSize)
    traffic(guest)
    if guest.isRunning { field("pid", guest.pid) }
    if about.template { field("template", 1) }
    labels(guest)
    if era.showsPressure {
      for key: StaticString in RowWriter.pressures { field(key, 0) }
    }
    switch guest.kind {
    case .qemu:
      if era.showsPressure { field("memhost", guest.isRunning ? about.memory / 3 : 0) }
      if guest.isRunning, !about.serialPorts.isEmpty { field("serial", 1) }
      guard isFull else { return }
      field("qmpstatus", guest.qmpStatus)
      if guest.isRunning {
        field("running-machine", "pc-i440fx-\(era.machineVersion)+pve0")
        field("running-qemu", era.qemuVersion)
        field("balloon", about.memory)
      }
    case .lxc:
      field("type", word: "lxc")
      field("swap", 0)
      field("maxswap", guest.swapSize)
    }
  }

  private static let pressures: [StaticString] = [
    "pressurecpusome", "pressurecpufull", "pressureiosome", "pressureiofull", "pressurememorysome",
    "pressurememoryfull",
  ]

  /// A guest in `GET /cluster/resources`. Nobody knows how guests of a node are that doesn't answer.
  mutating func addResource(_ guest: Guest, pool: String?, state: String? = nil) {
    let about = guest.description
    beginRow()
    if guest.kind == .qemu {
      field("id", prefix: "qemu/", guest.vmid)
      field("type", word: "qemu")
    } else {
      field("id", prefix: "lxc/", guest.vmid)
      field("type", word: "lxc")
    }
    field("vmid", guest.vmid)
    field("node", guest.node.name)
    if let pool { field("pool", pool) }
    if let state { field("hastate", state) }
    labels(guest)
    guard guest.node.reachability == .up else {
      field("status", word: "unknown")
      endRow()
      return
    }
    field("name", about.name)
    field("status", word: guest.isRunning ? "running" : "stopped")
    field("template", about.template ? 1 : 0)
    field("uptime", guest.uptime)
    cpu(guest)
    field("maxcpu", about.cores)
    memory(guest)
    if guest.node.era.showsPressure { field("memhost", 0) }
    field("disk", guest.kind == .lxc && guest.isRunning ? guest.diskSize / 5 : 0)
    field("maxdisk", guest.diskSize)
    traffic(guest)
    endRow()
  }

  // MARK: nodes

  /// A node in `GET /nodes` and `GET /cluster/resources`: numbers are for those who may see the node, of nodes that
  /// are up.
  mutating func add(_ node: PVENode, mayAudit: Bool, isResource: Bool) {
    let isUp = node.reachability == .up
    beginRow()
    field("id", "node/\(node.name)")
    field("type", word: "node")
    field("node", node.name)
    field("status", word: isUp ? "online" : "offline")
    if !isResource { field("ssl_fingerprint", "\(node.certificates.fingerprint)") }
    if mayAudit {
      field("level", "")
      if isUp {
        let load = node.load
        field("uptime", node.clock.now - node.booted)
        field("cpu", load.cpu)
        field("maxcpu", load.cpus)
        field("mem", load.memory)
        field("maxmem", load.maximumMemory)
        field("disk", load.disk)
        field("maxdisk", load.maximumDisk)
        if isResource { field("cgroup-mode", node.era.major == 7 ? 1 : 2) }
      }
    }
    endRow()
  }

  // MARK: storages

  /// A storage of a node in `GET /cluster/resources`.
  mutating func addResource(_ definition: StorageDefinition, on node: PVENode) {
    beginRow()
    field("id", "storage/\(node.name)/\(definition.id)")
    field("type", word: "storage")
    field("storage", definition.id)
    field("node", node.name)
    field("plugintype", definition.kind.name)
    field("content", definition.contents.joined(separator: ","))
    field("shared", definition.isShared ? 1 : 0)
    if node.reachability == .up {
      let usage = node.cluster.storages.usage(of: definition, on: node.name)
      field("status", word: "available")
      field("disk", usage.used)
      field("maxdisk", usage.total)
    } else {
      field("status", word: "unknown")
    }
    endRow()
  }
}

extension Era {
  /// Whether lists tell the pressure on processor, disks and memory: PVE 9.
  var showsPressure: Bool { major >= 9 }

  /// The machine type's version: 11.0 of QEMU 11.0.0.
  var machineVersion: String { qemuVersion.split(separator: ".").prefix(2).joined(separator: ".") }
}

extension Guest {
  /// A container's swap in bytes.
  var swapSize: Int {
    isUntouched ? 0 : (config.options["swap"].flatMap { Int($0) } ?? 512) << 20
  }
}

extension PVENode {
  /// What the node has and uses. Guests that run take their share.
  struct Load {
    var cpu: Double
    var cpus: Int
    var memory: Int
    var maximumMemory: Int
    var disk: Int
    var maximumDisk: Int
  }

  var load: Load {
    Load(
      cpu: 0.0277227722772277, cpus: 2, memory: 1_334_693_888, maximumMemory: 25_276_514_304,
      disk: 23_475_335_168, maximumDisk: 270_553_174_016)
  }
}
