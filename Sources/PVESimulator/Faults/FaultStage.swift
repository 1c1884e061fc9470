import EventLoop

/// What conditions and happenings do to the cluster.
extension Cluster: FaultStage {
  func resolve(_ effect: Fault.Effect, asked request: RequestFacts?) -> Fault.Effect {
    let asked = request?.node ?? nodes.first?.name
    return switch effect {
    case .nodeDown(let name, let manner): .nodeDown(name ?? asked, manner)
    case .newCertificate(let name): .newCertificate(name ?? asked)
    case .proxyRestart(let name): .proxyRestart(name ?? asked)
    case .workerDeath(let name, let worker):
      .workerDeath(name ?? asked, worker: worker ?? request?.worker ?? 0)
    default: effect
    }
  }

  func check(_ fault: Fault) throws(FaultError) {
    let named: String? =
      switch fault.effect {
      case .nodeDown(let name, _), .newCertificate(let name), .fullPorts(let name),
        .proxyRestart(let name), .workerDeath(let name, _), .migration(_, let name):
        name
      default: nil
      }
    for name in [named, fault.when.node].compactMap(\.self) where node(named: name) == nil {
      throw FaultError("there is no node '\(name)'")
    }
    guard !fault.when.isRequest else { return }
    switch fault.effect {
    case .migration(let vmid, _), .guestCrash(let vmid):
      guard guests[vmid] != nil else { throw FaultError("there is no guest \(vmid)") }
    default: break
    }
  }

  func begin(_ effect: Fault.Effect, for duration: Duration?) {
    switch effect {
    case .nodeDown(let name, let manner): node(named: name ?? "")?.set(manner)
    case .newCertificate(let name): node(named: name ?? "")?.swapCertificate()
    case .clockSkew(let seconds): clock.advance(seconds: seconds)
    case .agent(let state, let vmid):
      for vmid in vmid.map({ [$0] }) ?? Array(guests.keys) { behaviour.agents[vmid] = state }
    case .workerDeath(let name, let worker): node(named: name ?? "")?.killWorker(worker ?? 0)
    case .proxyRestart(let name):
      node(named: name ?? "")?.restartProxy(for: duration ?? .milliseconds(500))
    case .revokedTickets(let user): tickets.revocations.revoke(user: user, now: clock.now)
    case .migration(let vmid, let target): migrate(vmid, to: target)
    case .guestCrash(let vmid): guests[vmid]?.stop()
    default: break
    }
  }

  func end(_ effect: Fault.Effect) {
    switch effect {
    case .nodeDown(let name, _): node(named: name ?? "")?.set(.up)
    case .newCertificate(let name): node(named: name ?? "")?.restoreCertificate()
    case .clockSkew(let seconds): clock.advance(seconds: -seconds)
    case .agent(_, let vmid):
      for vmid in vmid.map({ [$0] }) ?? Array(guests.keys) { behaviour.agents[vmid] = nil }
    default: break
    }
  }

  /// Moves a guest as root@pam's `POST …/migrate` does; to the next node that is up where none is named.
  func migrate(_ vmid: Int, to target: String?) {
    guard let guest = guests[vmid] else { return }
    let source = guest.node
    let others = nodes.filter { $0 !== source && $0.reachability == .up }
    guard let wanted = target ?? others.first?.name, wanted != source.name else { return }
    var parameters = Parameters()
    parameters.set("target", .text(wanted))
    let mode = guest.description.kind == .qemu ? "online" : "restart"
    if guest.isRunning { parameters.set(mode, .text("1")) }
    let call = APICall(
      method: "POST",
      path: "/nodes/\(source.name)/\(guest.description.kind.rawValue)/\(vmid)/migrate",
      identity: Identity(authID: "root@pam"), parameters: parameters)
    // What the operation refuses (a locked guest, say) doesn't happen.
    _ = try? source.perform(call)
  }
}
