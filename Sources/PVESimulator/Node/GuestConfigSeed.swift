/// The configuration that a guest of the simulator's configuration begins with.
extension GuestConfig {
  /// The name of a seeded guest's disk.
  static func seedDiskName(_ about: SimulatedGuest) -> String {
    "\(about.template ? "base" : "vm")-\(about.vmid)-disk-0"
  }

  /// Where a seeded guest's disk is.
  static let seedStorage = "local-lvm"

  init(seed about: SimulatedGuest, era: Era) {
    switch about.kind {
    case .qemu: options = OptionList(GuestConfig.machine(about, era))
    case .lxc: options = OptionList(GuestConfig.container(about))
    }
    if !about.tags.isEmpty { options["tags"] = about.tags.joined(separator: ";") }
    if about.template { options["template"] = "1" }
  }

  private static func disk(_ about: SimulatedGuest) -> String {
    "\(seedStorage):\(seedDiskName(about))"
  }

  private static func machine(_ about: SimulatedGuest, _ era: Era) -> [(String, String)] {
    var options: [(String, String)] = []
    if about.agent { options.append(("agent", "1")) }
    options += [
      ("boot", "order=scsi0;net0"), ("cores", String(about.cores)), ("cpu", "x86-64-v2-AES"),
      ("memory", String(about.memory >> 20)),
      ("meta", "creation-qemu=\(era.qemuVersion),ctime=1795281569"), ("name", about.name),
      (
        "net0",
        "virtio=\(GuestIdentity.mac(GuestIdentity.bytes(of: about.vmid, 3, salt: 1))),"
          + "bridge=vmbr0,firewall=1"
      ),
      ("numa", "0"), ("ostype", "l26"),
      ("scsi0", "\(disk(about)),iothread=1,size=\(about.disk >> 30)G"),
      ("scsihw", "virtio-scsi-single"),
    ]
    for port in about.serialPorts.keys.sorted() { options.append(("serial\(port)", "socket")) }
    options += [
      ("smbios1", "uuid=\(GuestIdentity.uuid(of: about.vmid, salt: 2))"), ("sockets", "1"),
      ("vga", "std"), ("vmgenid", GuestIdentity.uuid(of: about.vmid, salt: 3)),
    ]
    return options
  }

  private static func container(_ about: SimulatedGuest) -> [(String, String)] {
    [
      ("arch", "amd64"), ("cmode", "tty"), ("cores", String(about.cores)),
      ("features", "nesting=1"),
      ("hostname", about.name), ("memory", String(about.memory >> 20)),
      (
        "net0",
        "name=eth0,bridge=vmbr0,firewall=1,"
          + "hwaddr=\(GuestIdentity.mac(GuestIdentity.bytes(of: about.vmid, 3, salt: 1))),"
          + "ip=dhcp,type=veth"
      ),
      ("ostype", "debian"), ("rootfs", "\(disk(about)),size=\(about.disk >> 30)G"), ("swap", "0"),
      ("unprivileged", "1"),
    ]
  }
}

extension GuestConfig {
  /// What the options say about a guest, on top of what its seed says (the back ends of its consoles).
  func description(of seed: SimulatedGuest) -> SimulatedGuest {
    var about = seed
    let fallback = seed.kind == .qemu ? "VM \(seed.vmid)" : "CT\(seed.vmid)"
    about.name = options[seed.kind == .qemu ? "name" : "hostname"] ?? fallback
    about.tags = options["tags"].map(listParts) ?? []
    about.template = isTemplate
    if let memory = options["memory"] {
      let number = memory.split(separator: ",").first?.split(separator: "=").last ?? ""
      about.memory = (Int(number) ?? 512) << 20
    } else {
      about.memory = 512 << 20
    }
    guard seed.kind == .qemu else {
      about.cores = options["cores"].flatMap { Int($0) } ?? 2
      return about
    }
    let sockets = options["sockets"].flatMap { Int($0) } ?? 1
    about.cores =
      options["vcpus"].flatMap { Int($0) }
      ?? sockets * (options["cores"].flatMap { Int($0) } ?? 1)
    about.agent = GuestConfig.isAgentEnabled(options["agent"])
    about.serialPorts = [:]
    for port in 0...3 where options["serial\(port)"] == "socket" {
      about.serialPorts[port] = seed.serialPorts[port] ?? .shell
    }
    return about
  }

  /// `1`, `enabled=1,fstrim_cloned_disks=1`.
  static func isAgentEnabled(_ text: String?) -> Bool {
    guard let text else { return false }
    for part in text.split(separator: ",") {
      if part == "1" || part == "enabled=1" { return true }
    }
    return false
  }
}
