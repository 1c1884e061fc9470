import ConsoleProtocol
import EventLoop
import Foundation
import ProxmoxClient
import Testing

@testable import Gateway
@testable import PVESimulator

@Suite("In front of a simulated node", .serialized)
struct SimulatedNodeTests {
  @Test(
    "every console opens with a token, and a terminal echoes",
    arguments: [
      ("node/pve1", Console.terminal), ("qemu/100", .vnc), ("qemu/100", .terminal),
      ("qemu/100", .serial0), ("lxc/200", .terminal), ("lxc/200", .vnc), ("qemu/101", .vnc),
    ])
  func opens(target: String, console: Console) async throws {
    try await SimulatedBed.with { gateway, _ in
      let viewer = try await gateway.viewer(target, console)
      let ready = try await viewer.message()
      #expect(ready["type"].string == "ready", "\(ready)")
      #expect(ready["console"].string == console.description)
      guard console == .vnc else { return }
      #expect(try await viewer.next() == .binary(Array("RFB 003.008\n".utf8)))
    }
  }

  @Test("a node's VNC shell needs a user, and a second credential opens it")
  func secondCredential() async throws {
    try await SimulatedBed.with { gateway, _ in
      let viewer = try await gateway.viewer("node/pve1", .vnc)
      let ended = try await viewer.message()
      #expect(ended["kind"].string == "token-unsupported")
      #expect(ended["remedy"].string?.contains("consoleUser") == true)
    }
    try await SimulatedBed.with(
      { configuration, pve in
        configuration.clusters[0].consoleCredential = .password(
          user: "root@pam", password: pve.rootPassword, secondFactor: nil)
      },
      { gateway, _ in
        let viewer = try await gateway.viewer("node/pve1", .vnc)
        #expect(try await viewer.message()["type"].string == "ready")
      })
  }

  @Test("a stopped VM and a VM without a serial port are known before the mint")
  func checks() async throws {
    try await SimulatedBed.with { gateway, _ in
      let off = try await gateway.viewer("qemu/102", .vnc)
      #expect(try await off.message()["kind"].string == "guest-not-running")
      let mute = try await gateway.viewer("qemu/101", .terminal)
      #expect(try await mute.message()["kind"].string == "no-serial-port")
    }
  }

  @Test("a killed worker, and a guest that was shut down, end with their reasons")
  func ends() async throws {
    try await SimulatedBed.with { gateway, pve in
      let first = try await gateway.viewer("lxc/200", .terminal)
      #expect(try await first.message()["type"].string == "ready")
      let task = try #require(await pve.runningTasks().first)
      #expect(await pve.killTask(task))
      let killed = try await first.message()
      #expect(killed["kind"].string == "worker-exited", "\(killed)")

      let second = try await gateway.viewer("qemu/100", .vnc)
      #expect(try await second.message()["type"].string == "ready")
      await pve.stopGuest(100)
      let stopped = try await second.message()
      #expect(stopped["kind"].string == "guest-stopped", "\(stopped)")
    }
  }

  @Test("who may only look gets told which privilege is missing")
  func permission() async throws {
    try await SimulatedBed.with(credential: { pve in
      .password(
        user: "auditor@pve", password: pve.password(of: "auditor@pve") ?? Secret(""),
        secondFactor: nil)
    }) { gateway, _ in
      let viewer = try await gateway.viewer("qemu/100", .vnc)
      let ended = try await viewer.message()
      #expect(ended["kind"].string == "permission-denied")
      #expect(ended["remedy"].string?.contains("VM.Console") == true)
    }
  }

  @Test("ports that are used up, and another certificate, are told apart")
  func refusals() async throws {
    try await SimulatedBed.with(simulator: { $0.behaviour.portsExhausted = true }) { gateway, _ in
      let viewer = try await gateway.viewer("qemu/100", .vnc)
      #expect(try await viewer.message()["kind"].string == "ports-exhausted")
    }
    try await SimulatedBed.with(
      { configuration, _ in
        guard let other = Fingerprint(bytes: [UInt8](repeating: 7, count: 32)) else { return }
        configuration.clusters[0].tls = TLSPolicy(trust: .fingerprint(other))
      },
      { gateway, pve in
        do {
          _ = try await gateway.link(ConsoleOrder(target: try Target("qemu/100")))
          Issue.record("a link in spite of another certificate")
        } catch let problem as Problem {
          #expect(problem.status == 502)
          #expect(problem.kind == "tls-untrusted")
          #expect(problem.more["seen"] == .string(pve.fingerprint.description))
          #expect(problem.remedy?.contains("fingerprint: \"\(pve.fingerprint)\"") == true)
        }
      })
  }

  @Test("eight viewers of one VM's screen at the same moment all get in")
  func sameScreen() async throws {
    try await SimulatedBed.with { gateway, _ in
      let kinds = try await withThrowingTaskGroup(of: (RawViewer, String?).self) { group in
        for _ in 0..<8 {
          group.addTask {
            let viewer = try await gateway.viewer("qemu/100", .vnc)
            return (viewer, try await viewer.message()["type"].string)
          }
        }
        // The viewers are kept to the end, so that none makes room for another.
        return try await group.reduce(into: [(RawViewer, String?)]()) { $0.append($1) }
      }
      #expect(kinds.map(\.1) == Array(repeating: "ready", count: 8))
    }
  }

  @Test("after its viewers left, no worker is left on the node")
  func workersEnd() async throws {
    try await SimulatedBed.with { gateway, pve in
      for target in ["qemu/100", "lxc/200"] {
        let viewer = try await gateway.viewer(target, .terminal)
        _ = try await viewer.message()
      }
      var running = await pve.runningTasks()
      for _ in 0..<200 where !running.isEmpty {
        try await Task.sleep(for: .milliseconds(50))
        running = await pve.runningTasks()
      }
      #expect(running.isEmpty)
    }
  }

  @Test("under TLS the API answers, and its certificate is the one configured")
  func serverTLS() async throws {
    let certificates = try #require(CertificateSet.make(nodes: ["gateway"], fresh: true).first)
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let certificate = folder.appendingPathComponent("certificate.pem").path
    let key = folder.appendingPathComponent("key.pem").path
    try certificates.certificatePEM.write(toFile: certificate, atomically: true, encoding: .utf8)
    try certificates.keyPEM.reveal().write(toFile: key, atomically: true, encoding: .utf8)
    try await SimulatedBed.with({ configuration, _ in
      configuration.tls = .init(certificateFile: certificate, keyFile: key)
    }) { gateway, _ in
      #expect(gateway.url == "https://127.0.0.1:\(gateway.port)")
      // The client core is a TLS client that knows pins; what it asks for isn't there, which is an answer.
      var cluster = ClusterConfiguration(
        name: "self", hosts: [APIHost(host: "127.0.0.1", port: gateway.port)],
        credential: .token(id: "a@pve!b", secret: Secret("c")))
      cluster.tls = TLSPolicy(trust: .fingerprint(certificates.fingerprint))
      let client = ProxmoxClient(cluster)
      defer { client.shutdown() }
      do throws(PVEError) {
        _ = try await client.call(.get, "/version")
        Issue.record("the gateway answered for PVE")
      } catch {
        #expect(error.status == 404)
      }
    }
  }
}
