import ConsoleProtocol
import PVESimulator
import ProxmoxClient

/// The embedded node of `demo` and `node`, with its QEMU where one is wanted.
final class EmbeddedNode {
  let simulator: Simulator
  /// What there is to say about its QEMU.
  let note: String?

  /// Starts it.
  /// - Parameters:
  ///   - configuration: what the node is like; QEMU's VM, and what makes it friendlier, come on top.
  ///   - qemu: what a real QEMU's guest shall run on; nil for no QEMU.
  init(_ configuration: SimulatorConfiguration, qemu: Accelerator?) async throws {
    var configuration = configuration
    var note: String?
    if let qemu {
      // A node without its QEMU is better than none.
      do throws(Failure) {
        let ready = try QEMUGuest.ready(qemu)
        configuration.guests.append(ready.guest)
        note = ready.note
      } catch {
        note = "No VM 103: \(error.sentence)" + (error.remedy.isEmpty ? "" : " \(error.remedy)")
      }
    }
    self.note = note
    // Friendlier than PVE, whose memory a viewer that doesn't read can fill.
    configuration.behaviour.overflow = .pause
    configuration.behaviour.relayBuffer = 8 << 20
    if let password = SecretSource.environment("SALLYPORT_NODE_PASSWORD") {
      configuration.rootPassword = password
    }
    if let secret = SecretSource.environment("SALLYPORT_NODE_TOKEN_SECRET") {
      configuration.tokenSecret = secret
    }
    configuration.controlToken = SecretSource.environment("SALLYPORT_NODE_CONTROL_TOKEN")
    do throws(SimulatorError) {
      simulator = try await PVESimulator.start(configuration)
    } catch {
      throw Failure(error)
    }
  }

  /// How our own client gets to it: as root@pam, whose node shell needs no second login.
  var cluster: ClusterConfiguration {
    ClusterConfiguration(
      name: "demo", hosts: [APIHost(host: "127.0.0.1", port: simulator.port)],
      credential: .password(
        user: "root@pam", password: simulator.rootPassword, secondFactor: nil),
      tls: TLSPolicy(trust: .fingerprint(simulator.fingerprint)))
  }

  /// Ends the node and every process that it started.
  func stop() async {
    await simulator.shutdown()
  }
}

extension Failure {
  /// Why an embedded node didn't start, in one line.
  init(_ error: SimulatorError) {
    let (kind, status): (String, ExitStatus) =
      switch error {
      case .configuration: ("bad-configuration", .configuration)
      case .listen: ("not-listening", .configuration)
      case .state: ("bad-state", .configuration)
      case .certificate: ("node-failed", .failure)
      }
    let way: String =
      switch error {
      case .listen: " Give another --port, or 0 for a free one."
      case .configuration, .state, .certificate: ""
      }
    self.init(
      kind: kind, sentence: "The embedded node didn't start: \(error).\(way)", status: status)
  }
}
