/// Checks of privileges that operations make themselves, where the schema's expression is not the whole of it.
extension PVENode {
  /// Whether the caller has a privilege on a path.
  func holds(_ arguments: Arguments, _ privilege: String, on path: String) -> Bool {
    arguments.isRoot || access.privileges(of: arguments.authID, on: path).contains(privilege)
  }

  /// - Throws: The 403 that names the first privilege that is missing.
  func require(_ arguments: Arguments, _ privileges: [String], on path: String) throws(APIError) {
    for privilege in privileges where !holds(arguments, privilege, on: path) {
      throw .forbidden("\(path), \(privilege)")
    }
  }

  /// - Throws: The 403 that names them all where there is none of them.
  func requireAny(_ arguments: Arguments, _ privileges: [String], on path: String) throws(APIError)
  {
    guard !privileges.contains(where: { holds(arguments, $0, on: path) }) else { return }
    throw .forbidden("\(path), \(privileges.joined(separator: "|"))")
  }

  /// Privileges on a guest, or on the pool that it is to be in.
  func require(
    _ arguments: Arguments, _ privileges: [String], onGuest vmid: Int, pool: String? = nil,
    any: Bool = false
  ) throws(APIError) {
    if arguments.isRoot { return }
    if let pool {
      let held = privileges.filter { holds(arguments, $0, on: "/pool/\(pool)") }
      if any ? !held.isEmpty : held.count == privileges.count { return }
    }
    if any {
      try requireAny(arguments, privileges, on: "/vms/\(vmid)")
    } else {
      try require(arguments, privileges, on: "/vms/\(vmid)")
    }
  }

  /// Options that only `root@pam` itself may use; a token of root's is not root.
  func requireRoot(_ arguments: Arguments, for options: String...) throws(APIError) {
    guard !arguments.isRoot else { return }
    for option in options where arguments.flag(option) || isGiven(arguments, option) {
      throw .invalid([.init(name: option, text: "Only root may use this option.")])
    }
  }

  private func isGiven(_ arguments: Arguments, _ option: String) -> Bool {
    guard let text = arguments.text(option) else { return false }
    return text != "0" && !text.isEmpty
  }

  /// A pool must be there.
  func requirePool(_ pool: String?) throws(APIError) {
    guard let pool, cluster.pools[pool] == nil else { return }
    throw APIError(status: 403, message: "pool '\(pool)' does not exist")
  }

  /// What changing these options of a guest takes.
  func requireConfigRights(
    _ arguments: Arguments, _ keys: [String], of vmid: Int, _ kind: SimulatedGuest.Kind,
    pool: String? = nil
  ) throws(APIError) {
    if arguments.isRoot { return }
    for key in keys {
      switch GuestOptions.right(key, kind) {
      case .privilege(let name):
        try require(arguments, [name], onGuest: vmid, pool: pool)
        if key == "startup" { try require(arguments, ["Sys.Modify"], on: "/") }
      case .either(let a, let b):
        try require(arguments, [a, b], onGuest: vmid, pool: pool, any: true)
      case .elsewhere: break
      case .rootOnly: throw .died("only root can set '\(key)' config")
      }
    }
  }

  /// What a value takes that its option alone doesn't tell: real devices, mapped ones, bridges.
  func requireValueRights(
    _ arguments: Arguments, _ options: [(String, String)], of vmid: Int,
    _ kind: SimulatedGuest.Kind, pool: String? = nil
  ) throws(APIError) {
    if arguments.isRoot { return }
    for (key, value) in options {
      switch GuestOptions.family(key, kind)?.name {
      case "serial":
        guard value == "socket" else {
          throw .died("only root can set '\(key)' config for real devices")
        }
        try require(arguments, ["VM.Config.HWType"], onGuest: vmid, pool: pool)
      case "usb": try requireDevice(arguments, key, value, of: vmid, pool, mapping: "/mapping/usb")
      case "hostpci":
        try requireDevice(arguments, key, value, of: vmid, pool, mapping: "/mapping/pci")
      case "net": try requireBridge(arguments, value)
      default: break
      }
    }
  }

  private func requireDevice(
    _ arguments: Arguments, _ key: String, _ value: String, of vmid: Int, _ pool: String?,
    mapping: String
  ) throws(APIError) {
    try require(arguments, ["VM.Config.HWType"], onGuest: vmid, pool: pool)
    let parts = value.split(separator: ",")
    if let mapped = parts.first(where: { $0.hasPrefix("mapping=") }) {
      try require(arguments, ["Mapping.Use"], on: "\(mapping)/\(mapped.dropFirst(8))")
      return
    }
    let host = parts.first.map { $0.hasPrefix("host=") ? $0.dropFirst(5) : $0 } ?? ""
    guard key.hasPrefix("usb"), host.lowercased() == "spice" else {
      throw .died(
        key.hasPrefix("usb")
          ? "only root can set '\(key)' config for real devices"
          : "only root can set '\(key)' config for non-mapped devices")
    }
  }

  /// `SDN.Use` on a network card's bridge; since PVE 8.
  private func requireBridge(_ arguments: Arguments, _ net: String) throws(APIError) {
    guard era.major >= 8,
      let bridge = net.split(separator: ",").first(where: { $0.hasPrefix("bridge=") })?.dropFirst(7)
    else { return }
    let tag = net.split(separator: ",").first { $0.hasPrefix("tag=") }?.dropFirst(4)
    let path = "/sdn/zones/localnetwork/\(bridge)" + (tag.map { "/\($0)" } ?? "")
    try require(arguments, ["SDN.Use"], on: path)
  }

  /// A guest that is free to be changed.
  func requireUnlocked(_ guest: Guest, unless skips: Bool = false) throws(APIError) {
    guard !skips, let lock = guest.lock else { return }
    throw .died("\(guest.word) is locked (\(lock))")
  }

  /// The digest that the caller last saw is still the file's.
  func requireDigest(_ digest: String?, _ guest: Guest, plain: Bool = false) throws(APIError) {
    guard let digest, !digest.isEmpty, digest != guest.config.digest else { return }
    throw .died(
      plain
        ? "checksum mismatch (file change by other user?)"
        : "detected modified configuration - file changed by other user? Try again.")
  }
}

extension Arguments {
  /// `root@pam` with a ticket.
  var isRoot: Bool { identity?.authID == "root@pam" }

  /// What was given besides these.
  func options(without names: Set<String>) -> [(String, String)] {
    values.pairs.compactMap { pair in
      guard !names.contains(pair.name), let text = pair.value.text else { return nil }
      return (pair.name, text)
    }
  }
}
