import ConsoleProtocol
import EventLoop

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
  public static func start(_ configuration: SimulatorConfiguration) async throws(SimulatorError)
    -> Simulator
  {
    // The first ticket waits for the signing key; making it needs a tenth of a second.
    Task.detached(priority: .high) { _ = SigningKey.shared }
    try check(configuration)
    let access = try AccessControl(
      users: configuration.users, rootPassword: configuration.rootPassword,
      tokenSecret: configuration.tokenSecret)
    let certificates = try CertificateSet.make(
      node: configuration.nodeName, fresh: configuration.freshCertificate)
    let journal = Journal()
    let socket: (descriptor: Int32, port: Int)
    let tls: TLSContext
    let group: LoopGroup
    do throws(LoopError) {
      socket = try Listener.open(address: .loopback(port: configuration.port))
      tls = try TLSContext.server(
        certificatePEM: certificates.certificatePEM + certificates.caPEM,
        keyPEM: certificates.keyPEM)
      group = try LoopGroup(count: 1)
    } catch {
      throw .listen("\(error)")
    }
    guard let loop = group.loops.first else { throw .listen("there is no event loop") }
    let outcome: Result<OnLoop<PVENode>, LoopError> = await withCheckedContinuation { done in
      loop.execute {
        let node = PVENode(
          loop: loop, configuration: configuration, access: access, certificates: certificates,
          tls: tls, journal: journal)
        do throws(LoopError) {
          try node.listen(socket: socket)
          done.resume(returning: .success(OnLoop(node, loop: loop)))
        } catch {
          done.resume(returning: .failure(error))
        }
      }
    }
    switch outcome {
    case .failure(let error):
      group.shutdown()
      throw .listen("\(error)")
    case .success(let node):
      return Simulator(
        port: socket.port, configuration: configuration, certificates: certificates, access: access,
        journal: journal, group: group, node: node)
    }
  }

  private static func check(_ configuration: SimulatorConfiguration) throws(SimulatorError) {
    guard NodeName(configuration.nodeName) != nil else {
      throw .configuration("'\(configuration.nodeName)' is no node name")
    }
    guard (0...65_535).contains(configuration.port) else {
      throw .configuration("port \(configuration.port) is no TCP port")
    }
    var seen: Set<Int> = []
    for guest in configuration.guests {
      guard VMID(guest.vmid) != nil else {
        throw .configuration("\(guest.vmid) is no vmid: those are 100 to 999999999")
      }
      guard seen.insert(guest.vmid).inserted else {
        throw .configuration("there are two guests with the vmid \(guest.vmid)")
      }
      guard guest.serialPorts.keys.allSatisfy({ (0...3).contains($0) }) else {
        throw .configuration("guest \(guest.vmid) has a serial port beyond 0 to 3")
      }
    }
  }
}
