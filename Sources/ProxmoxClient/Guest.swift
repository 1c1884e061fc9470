import ConsoleProtocol

/// How a guest stands right now.
public struct GuestStatus: Sendable, Hashable {
  /// `running` or `stopped`.
  public var status: String
  /// QEMU's own word (`running`, `paused`, `prelaunch` …), VMs only.
  public var qmpStatus: String?
  /// What holds its lock, if anything.
  public var lock: String?
  /// Its name.
  public var name: String?
  /// Seconds.
  public var uptime: Int?
  /// Whether the VM has a serial port, as PVE sums it up.
  public var hasSerial: Bool
  /// Whether the QEMU guest agent is configured.
  public var hasAgent: Bool
  /// The whole answer.
  public var all: JSONValue

  /// Whether it runs (a paused VM does, for its screen can be looked at).
  public var isRunning: Bool { status == "running" }
}

/// A guest's configuration, as far as consoles need it.
public struct GuestConfiguration: Sendable, Hashable {
  /// All of it, by key.
  public var all: JSONValue

  /// The serial ports that a console can be opened on: PVE's terminal needs `serialN: socket`.
  public var serialPorts: [Int] {
    (0...3).filter { all["serial\($0)"].string?.hasPrefix("socket") == true }
  }

  /// Whether a VM can show a screen: `vga: none` has none.
  public var hasScreen: Bool {
    let vga = all["vga"].string ?? "std"
    return !(vga == "none" || vga.hasPrefix("none,") || vga.hasPrefix("type=none"))
  }

  /// Whether a console can be opened on that VM or container.
  public func has(_ console: Console, on kind: Place.Kind) -> Bool {
    guard case .qemu = kind else { return console.isAvailable(on: kind) }
    switch console {
    case .vnc: return hasScreen
    case .terminal: return !serialPorts.isEmpty
    case .serial0: return serialPorts.contains(0)
    case .serial1: return serialPorts.contains(1)
    case .serial2: return serialPorts.contains(2)
    case .serial3: return serialPorts.contains(3)
    }
  }
}

extension ProxmoxClient {
  /// How a guest stands (`GET …/status/current`).
  public func guestStatus(_ place: Place) async throws(PVEError) -> GuestStatus {
    let answer = try await perform(
      APIRequest(method: .get, path: try guest(place) + "/status/current"))
    let value = answer.value
    return GuestStatus(
      status: try answer.string("status"), qmpStatus: value["qmpstatus"].string,
      lock: value["lock"].string, name: value["name"].string, uptime: value["uptime"].int,
      hasSerial: value["serial"].bool ?? false, hasAgent: value["agent"].bool ?? false, all: value)
  }

  /// A guest's configuration (`GET …/config`); it says which serial ports there are.
  public func guestConfiguration(_ place: Place) async throws(PVEError) -> GuestConfiguration {
    let answer = try await perform(APIRequest(method: .get, path: try guest(place) + "/config"))
    guard answer.value.object != nil else { throw answer.error("data", "is no object") }
    return GuestConfiguration(all: answer.value)
  }

  private func guest(_ place: Place) throws(PVEError) -> String {
    guard place.vmid != nil else {
      throw APIRequest(method: .get, path: place.apiPath).error(
        .targetNotFound, "\(place) is no guest")
    }
    return place.apiPath
  }
}
