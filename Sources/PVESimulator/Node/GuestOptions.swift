/// What PVE knows about the single options of a guest's configuration.
enum GuestOptions {
  /// Who may change an option.
  enum Right {
    /// A privilege on the guest.
    case privilege(String)
    /// One of two privileges on the guest.
    case either(String, String)
    /// It depends on the value, or nobody asks.
    case elsewhere
    case rootOnly
  }

  private static let cpu: Set<String> = [
    "cores", "cpu", "cpulimit", "cpuunits", "numa", "smp", "sockets", "vcpus",
  ]
  private static let memory: Set<String> = ["memory", "balloon", "shares", "allow-ksm"]
  private static let hardware: Set<String> = [
    "acpi", "hotplug", "kvm", "machine", "scsihw", "smbios1", "tablet", "vga", "watchdog", "audio0",
    "rng0", "spice_enhancements", "vmgenid", "ivshmem", "hugepages", "keephugepages",
  ]
  private static let general: Set<String> = [
    "agent", "autostart", "bios", "description", "keyboard", "localtime", "migrate_downtime",
    "migrate_speed", "name", "onboot", "ostype", "protection", "reboot", "startdate", "startup",
    "tdf", "template",
  ]
  private static let disk: Set<String> = ["boot", "bootdisk", "vmstatestorage"]
  private static let cloudinit: Set<String> = [
    "cicustom", "cipassword", "citype", "ciuser", "ciupgrade", "nameserver", "searchdomain",
    "sshkeys",
  ]
  private static let rootOnly: Set<String> = [
    "args", "lock", "hookscript", "affinity", "amd-sev", "intel-tdx", "arch", "vmstate", "parent",
    "meta", "runningmachine", "runningcpu", "running-nets-host-mtu", "snaptime",
  ]
  private static let families: [SimulatedGuest.Kind: [String: Int]] = [
    .qemu: [
      "net": 32, "scsi": 31, "virtio": 16, "sata": 6, "ide": 4, "unused": 256, "serial": 4,
      "parallel": 3, "usb": 14, "hostpci": 16, "numa": 8, "virtiofs": 10, "ipconfig": 32,
      "efidisk": 1, "tpmstate": 1,
    ],
    .lxc: ["net": 32, "mp": 256, "dev": 256, "unused": 256],
  ]
  private static let container: Set<String> = [
    "arch", "cmode", "console", "cores", "cpulimit", "cpuunits", "debug", "description",
    "entrypoint", "env", "features", "hookscript", "hostname", "lock", "memory", "nameserver",
    "onboot", "ostype", "protection", "rootfs", "searchdomain", "startup", "swap", "tags",
    "template", "timezone", "tty", "unprivileged", "parent",
  ]

  /// `scsi` and 0 of `scsi0`; nil where it is no family of the kind, or a number that it doesn't have.
  static func family(_ key: String, _ kind: SimulatedGuest.Kind) -> (name: String, index: Int)? {
    let name = String(key.prefix { !$0.isNumber })
    let digits = key.dropFirst(name.count)
    guard let index = Int(digits), String(index) == digits, let limit = families[kind]?[name],
      index < limit
    else { return nil }
    return (name, index)
  }

  /// Whether there is such an option.
  static func exists(_ key: String, _ kind: SimulatedGuest.Kind) -> Bool {
    if family(key, kind) != nil { return true }
    if kind == .lxc { return container.contains(key) }
    return cpu.contains(key) || memory.contains(key) || hardware.contains(key)
      || general.contains(key) || disk.contains(key) || cloudinit.contains(key)
      || rootOnly.contains(key) || key == "tags" || key == "freeze"
  }

  /// A VM's drive.
  static func isDrive(_ key: String) -> Bool {
    guard let name = family(key, .qemu)?.name else { return false }
    return ["scsi", "virtio", "sata", "ide", "efidisk", "tpmstate"].contains(name)
  }

  /// A container's `rootfs` or `mp0`.
  static func isMountPoint(_ key: String) -> Bool {
    key == "rootfs" || family(key, .lxc)?.name == "mp"
  }

  /// Whether an option holds a volume.
  static func isVolume(_ key: String, _ kind: SimulatedGuest.Kind) -> Bool {
    kind == .qemu ? isDrive(key) : isMountPoint(key)
  }

  /// What changing an option takes.
  static func right(_ key: String, _ kind: SimulatedGuest.Kind) -> Right {
    kind == .qemu ? rightOfVM(key) : rightOfContainer(key)
  }

  private static func rightOfVM(_ key: String) -> Right {
    let name = family(key, .qemu)?.name
    if isDrive(key) || key == "tags" || key == "cdrom" { return .elsewhere }
    switch name {
    case "unused", "serial", "usb", "hostpci", "virtiofs": return .elsewhere
    case "numa": return .privilege("VM.Config.CPU")
    case "net": return .privilege("VM.Config.Network")
    case "ipconfig": return .either("VM.Config.Cloudinit", "VM.Config.Network")
    default: break
    }
    if cpu.contains(key) { return .privilege("VM.Config.CPU") }
    if memory.contains(key) { return .privilege("VM.Config.Memory") }
    if ["spice_enhancements", "vmgenid", "ivshmem", "hugepages", "keephugepages"].contains(key) {
      return .rootOnly
    }
    if hardware.contains(key) { return .privilege("VM.Config.HWType") }
    if general.contains(key) { return .privilege("VM.Config.Options") }
    if key == "freeze" { return .privilege("VM.PowerMgmt") }
    if disk.contains(key) { return .privilege("VM.Config.Disk") }
    if cloudinit.contains(key) { return .either("VM.Config.Cloudinit", "VM.Config.Network") }
    return .rootOnly
  }

  private static func rightOfContainer(_ key: String) -> Right {
    if isMountPoint(key) || key.hasPrefix("unused") { return .privilege("VM.Config.Disk") }
    if family(key, .lxc)?.name == "net" { return .privilege("VM.Config.Network") }
    switch key {
    case "cores", "cpulimit", "cpuunits", "cpu": return .privilege("VM.Config.CPU")
    case "memory", "swap": return .privilege("VM.Config.Memory")
    case "nameserver", "searchdomain", "hostname": return .privilege("VM.Config.Network")
    case "tags": return .elsewhere
    case "features", "entrypoint", "env": return .privilege("VM.Config.Options")
    case "hookscript", "lock", "unprivileged", "parent": return .rootOnly
    case _ where family(key, .lxc)?.name == "dev": return .rootOnly
    default: return .privilege("VM.Config.Options")
    }
  }

  /// Whether a running guest takes a change of the option at once.
  static func isHotpluggable(_ key: String, _ kind: SimulatedGuest.Kind, features: Set<String>)
    -> Bool
  {
    let name = family(key, kind)?.name
    if kind == .lxc {
      let cold: Set<String> = [
        "arch", "ostype", "tty", "cmode", "console", "features", "unprivileged", "debug", "rootfs",
        "entrypoint", "env", "timezone",
      ]
      return !cold.contains(key) && name != "dev"
    }
    switch name {
    case "net": return features.contains("network")
    case "scsi", "virtio": return features.contains("disk")
    case "usb": return features.contains("usb")
    case "unused": return true
    case "ipconfig": return true
    default: break
    }
    let fast: Set<String> = [
      "description", "hookscript", "lock", "migrate_downtime", "migrate_speed", "name", "onboot",
      "protection", "shares", "startup", "tags", "vmstatestorage", "balloon", "cpuunits",
      "cpulimit", "tablet", "freeze",
    ]
    if fast.contains(key) || cloudinit.contains(key) { return true }
    if key == "vcpus" { return features.contains("cpu") }
    if key == "memory" { return features.contains("memory") }
    return false
  }

  // MARK: types

  private static let numbersOfVM: Set<String> = [
    "acpi", "allow-ksm", "autostart", "balloon", "ciupgrade", "cores", "cpuunits", "freeze",
    "keephugepages", "kvm", "localtime", "migrate_speed", "numa", "onboot", "protection", "reboot",
    "shares", "smp", "sockets", "tablet", "tdf", "template", "vcpus", "cpulimit",
    "migrate_downtime", "snaptime",
  ]
  private static let numbersOfContainer: Set<String> = [
    "console", "cores", "cpulimit", "cpuunits", "debug", "memory", "onboot", "protection", "swap",
    "template", "tty", "unprivileged", "snaptime",
  ]

  /// A value with the type that PVE's answers give it.
  static func json(
    _ key: String, _ value: String, _ kind: SimulatedGuest.Kind, isPending: Bool = false
  ) -> JSON {
    if key == "cipassword" { return .string(isPending ? "********** " : "**********") }
    let numbers = kind == .qemu ? numbersOfVM : numbersOfContainer
    guard numbers.contains(key) else { return .string(value) }
    if let number = Int(value) { return .int(number) }
    if let number = Double(value) { return .double(number) }
    return .string(value)
  }
}
