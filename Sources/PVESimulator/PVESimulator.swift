import CSallyport
import ConsoleProtocol
import EventLoop
import Glibc

/// A Proxmox VE node inside this process: for trying things without a cluster, and for tests.
///
/// ```swift
/// let pve = try await PVESimulator.start(SimulatorConfiguration())
/// print(pve.url, pve.fingerprint, pve.rootPassword.reveal())
/// …
/// await pve.shutdown()
/// ```
///
/// It is strict: what PVE refuses it refuses, with PVE's words, times and silences. It runs real programs of this
/// machine as the current user (the node's shell, containers, serial ports), so it listens on 127.0.0.1 only.
public enum PVESimulator {
  /// Starts a node. It listens when this returns.
  /// - Throws: ``SimulatorError`` for a configuration that contradicts PVE's rules, a taken port, or no certificate.
  public static func start(_ configuration: SimulatorConfiguration = SimulatorConfiguration())
    async throws(SimulatorError) -> Simulator
  {
    // A process may exit while a thread makes a key; OpenSSL's clean-up at exit would pull the ground from under it.
    _ = sp_openssl_outlives_exit()
    // The first ticket waits for the signing key; making it needs a tenth of a second.
    Task.detached(priority: .high) { _ = SigningKey.shared }
    var configuration = configuration
    let state = try await OpenedState.open(configuration.stateFile)
    do throws(SimulatorError) {
      try state?.adopt(into: &configuration)
      return try await start(configuration, in: state)
    } catch {
      await state?.close()
      throw error
    }
  }

  /// Starts with what a state file said.
  private static func start(_ configuration: SimulatorConfiguration, in state: OpenedState?)
    async throws(SimulatorError) -> Simulator
  {
    try check(configuration)
    let access = try AccessControl(
      users: configuration.users, realms: configuration.realms,
      rootPassword: configuration.rootPassword, tokenSecret: configuration.tokenSecret,
      era: configuration.era, clock: configuration.clock)
    let names = [configuration.nodeName] + configuration.otherNodes
    let certificates: [CertificateSet] =
      if let kept = state?.identity?.certificates {
        kept
      } else {
        try CertificateSet.make(nodes: names, fresh: configuration.freshCertificate)
      }
    let journal = Journal()
    let journalFile: JournalFile? =
      if let path = configuration.journalFile { try JournalFile(path: path) } else { nil }
    if let journalFile { journal.tee { journalFile.add($0) } }
    var seats: [Seat] = []
    let group: LoopGroup
    do throws(LoopError) {
      for (i, set) in certificates.enumerated() {
        // The nodes of a cluster stand on ports that follow each other, where the first is given.
        let port = configuration.port == 0 ? 0 : configuration.port + i
        let tls = try TLSContext.server(
          certificatePEM: set.certificatePEM + set.caPEM, keyPEM: set.keyPEM)
        seats.append(
          Seat(
            name: names[i], certificates: set, tls: tls,
            socket: try Listener.open(address: .loopback(port: port))))
      }
      group = try LoopGroup(count: 1)
    } catch {
      for seat in seats { close(seat.socket.descriptor) }
      throw .listen("\(error)")
    }
    guard let loop = group.loops.first else { throw .listen("there is no event loop") }
    let taken = seats
    let identity = ClusterIdentity(configuration, certificates: certificates)
    let outcome: Result<Started, SimulatorError> = await withCheckedContinuation { done in
      loop.execute {
        let cluster = Cluster(
          loop: loop, configuration: configuration, access: access, journal: journal)
        cluster.journalFile = journalFile
        do throws(SimulatorError) {
          for seat in taken {
            let node = PVENode(
              cluster: cluster, name: seat.name, certificates: seat.certificates, tls: seat.tls,
              port: seat.socket.port)
            cluster.add(node)
            do throws(LoopError) {
              try node.listen(socket: seat.socket)
            } catch {
              throw .listen("\(error)")
            }
          }
          cluster.placeGuests()
          if let state { try cluster.keep(in: state, as: identity) }
          try cluster.injectConfiguredFaults()
          let started = Started(
            cluster: OnLoop(cluster, loop: loop), credentials: cluster.access.credentials)
          guard let store = cluster.store else {
            done.resume(returning: .success(started))
            return
          }
          // Whoever is told the credentials finds them in the file, however the process ends.
          store.whenCommitted { failure in
            guard let failure else {
              done.resume(returning: .success(started))
              return
            }
            cluster.shutdown()
            done.resume(returning: .failure(.state(failure.description)))
          }
        } catch {
          cluster.shutdown()
          done.resume(returning: .failure(error))
        }
      }
    }
    switch outcome {
    case .failure(let error):
      group.shutdown()
      throw error
    case .success(let started):
      let nodes = seats.map {
        Simulator.Node(
          name: $0.name, port: $0.socket.port, fingerprint: $0.certificates.fingerprint)
      }
      guard let first = nodes.first else { throw .configuration("there is no node") }
      return Simulator(
        first: first, others: Array(nodes.dropFirst()),
        caCertificatePEM: certificates.first?.caPEM ?? "", configuration: configuration,
        credentials: started.credentials, journal: journal, group: group,
        cluster: started.cluster)
    }
  }

  /// What the loop gives back once everything listens.
  private struct Started: Sendable {
    var cluster: OnLoop<Cluster>
    var credentials: AccessControl.Credentials
  }

  /// What a node needs before it is there.
  private struct Seat {
    var name: String
    var certificates: CertificateSet
    var tls: TLSContext
    var socket: (descriptor: Int32, port: Int)
  }

  private static func check(_ configuration: SimulatorConfiguration) throws(SimulatorError) {
    let names = [configuration.nodeName] + configuration.otherNodes
    for name in names where NodeName(name) == nil {
      throw .configuration("'\(name)' is no node name")
    }
    guard Set(names).count == names.count else {
      throw .configuration("two nodes have the same name")
    }
    guard names.count <= 64 else {
      throw .configuration("\(names.count) nodes are too many: a cluster has up to 64")
    }
    guard (0...65_535).contains(configuration.port),
      configuration.port == 0 || configuration.port + names.count - 1 <= 65_535
    else {
      throw .configuration("port \(configuration.port) is no TCP port (or too high for the nodes)")
    }
    var seen: Set<Int> = []
    for guest in configuration.guests {
      guard VMID(guest.vmid) != nil else {
        throw .configuration("\(guest.vmid) is no vmid: those are 100 to 999999999")
      }
      guard seen.insert(guest.vmid).inserted else {
        throw .configuration("there are two guests with the vmid \(guest.vmid)")
      }
      guard guest.node.map({ names.contains($0) }) ?? true else {
        throw .configuration("guest \(guest.vmid) is on a node that there isn't")
      }
      guard guest.serialPorts.keys.allSatisfy({ (0...3).contains($0) }) else {
        throw .configuration("guest \(guest.vmid) has a serial port beyond 0 to 3")
      }
    }
  }
}
