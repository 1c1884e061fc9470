/// What is real about a cluster: what stands for its containers, VMs and agents on this machine.
enum Realness {
  /// Which agents VMs have that are no real QEMU.
  static var agents: String {
    DebianAgent.path.map { "VMs' guest agents are Debian's qemu-ga (\($0))" }
      ?? "VMs' guest agents are our own, because qemu-ga is not installed"
  }

  /// What holds for this machine, whatever the guests.
  static var sentences: [String] { [RoomAbility.here.sentence, agents] }
}

extension Cluster {
  /// By vmid: guests in which something runs at the moment, and those that are a real machine.
  var realness: [Int: String] {
    var found: [Int: String] = [:]
    for guest in guests.values {
      guard let insides = guest.insidesIfMade else { continue }
      let vmid = guest.description.vmid
      if let machine = insides.machine {
        found[vmid] = machine.sentence
      } else if let room = insides.roomIfOpen {
        let place = room.isWalled ? "namespaces and a root of its own" : "processes of this machine"
        found[vmid] =
          guest.description.kind == .qemu
          ? "\(place); agent: \(insides.agentKind.rawValue)" : place
      }
    }
    return found
  }
}
