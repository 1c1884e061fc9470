import ConsoleProtocol
import ProxmoxClient
import Synchronization
import Testing

@testable import GuestExec

/// A transport that says what it is told to say.
private final class Puppet: ExecTransport {
  let name: TransportName
  let verdict: TransportVerdict
  let failure: ExecFailure?
  let starts = Atomic<Int>(0)

  init(_ name: TransportName, _ verdict: TransportVerdict, failure: ExecFailure? = nil) {
    self.name = name
    self.verdict = verdict
    self.failure = failure
  }

  func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict { verdict }
  func start(
    _ request: ExecRequest, on place: Place
  ) async throws(ExecFailure) -> any ExecProcess {
    starts.wrappingAdd(1, ordering: .relaxed)
    if let failure { throw failure }
    return LostProcess(name.rawValue)
  }
  func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    LostProcess(name.rawValue)
  }
}

@Suite("Which way a command goes")
struct FacadeTests {
  private func exec(_ transports: [any ExecTransport]) -> GuestExec {
    GuestExec(client: ProxmoxClient(.unused), transports: transports)
  }
  private let command = ExecRequest(["true"])

  @Test("the place decides the order, whatever the configuration's is")
  func order() async throws {
    let exec = exec([
      Puppet(.serial, .possible("serial")), Puppet(.console, .possible("console")),
      Puppet(.shell, .possible("shell")), Puppet(.ssh, .possible("ssh")),
      Puppet(.local, .possible("local")), Puppet(.agent, .possible("agent")),
    ])
    #expect(try await exec.start(command, on: .machine(100)).transport == .agent)
    #expect(try await exec.start(command, on: .container(200)).transport == .local)
    let said = await exec.explain(command, on: .container(200))
    #expect(said.map(\.transport) == [.local, .ssh, .shell, .serial, .console, .agent])
    #expect(said.map(\.isChosen) == [true, false, false, false, false, false])
    #expect(said.map(\.isAutomatic) == [true, true, true, false, false, false])
    #expect(try await exec.start(command, on: .container(200), via: .console).transport == .console)
  }

  @Test("what shares a session with people is never taken unasked")
  func neverUnasked() async {
    let exec = exec([Puppet(.console, .possible("c")), Puppet(.serial, .possible("s"))])
    for place in [Place.node, .machine(100), .container(200)] {
      await #expect(throws: ExecFailure.self) { try await exec.start(command, on: place) }
    }
  }

  @Test("root's own tool is no way around what PVE refuses")
  func noWayAround() async throws {
    let refused = ExecFailure(.permissionDenied, "VM.GuestAgent.Unrestricted is missing.")
    let both = exec([Puppet(.agent, .impossible(refused)), Puppet(.local, .possible("qm"))])
    await #expect(throws: refused) { try await both.start(command, on: .machine(100)) }
    #expect(await both.explain(command, on: .machine(100)).allSatisfy { !$0.isChosen })
    #expect(try await both.start(command, on: .machine(100), via: .local).transport == .local)
    #expect(try await both.start(command, on: .container(200)).transport == .local)
    let alone = exec([Puppet(.local, .possible("qm"))])
    #expect(try await alone.start(command, on: .machine(100)).transport == .local)
  }

  @Test("a way that turns out to be blocked is left for the next, and that is said")
  func nextWay() async throws {
    let blocked = Puppet(
      .ssh, .possible("ssh"), failure: ExecFailure(.unreachable, "Nothing listens."))
    let shell = Puppet(.shell, .possible("The shell."))
    let running = try await exec([blocked, shell]).start(command, on: .node)
    #expect(running.transport == .shell)
    #expect(running.reason == "The shell. Not by ssh: Nothing listens.")
    // Asked for by name there is no other way.
    await #expect(throws: ExecFailure.self) {
      try await exec([blocked, shell]).start(command, on: .node, via: .ssh)
    }
  }

  @Test("what is wrong with the command or its target is not tried again elsewhere")
  func notAgain() async {
    let other = Puppet(.shell, .possible("The shell."))
    for kind in [ExecFailure.Kind.startFailed, .guestNotRunning, .targetNotFound, .badRequest] {
      let first = Puppet(.ssh, .possible("ssh"), failure: ExecFailure(kind, "No."))
      await #expect(throws: ExecFailure(kind, "No.")) {
        try await exec([first, other]).start(command, on: .container(200))
      }
    }
    #expect(other.starts.load(ordering: .relaxed) == 0)
  }

  @Test("refusals are told as one, the fitting ones first")
  func refusals() async {
    func failure(_ transports: [any ExecTransport], _ place: Place) async -> ExecFailure? {
      do throws(ExecFailure) {
        _ = try await exec(transports).start(command, on: place)
        return nil
      } catch {
        return error
      }
    }
    let elsewhere = TransportVerdict.impossible(ExecFailure(.noTransport, "Not here."))
    let off = ExecFailure(.agentNotRunning, "The agent doesn't answer.", remedy: "Start it.")
    #expect(
      await failure([Puppet(.ssh, elsewhere), Puppet(.agent, .impossible(off))], .machine(100))
        == off
    )
    let refused = ExecFailure(.loginFailed, "The key was refused.", remedy: "Add it.")
    let rootless = ExecFailure(.unsupportedVersion, "A token has no shell.", remedy: "Log in.")
    let both = await failure(
      [Puppet(.shell, .impossible(rootless)), Puppet(.ssh, .possible("x"), failure: refused)], .node
    )
    #expect(both?.kind == .loginFailed)
    #expect(both?.remedy == "Add it. Not by shell either: A token has no shell.")
    let none = await failure([Puppet(.agent, elsewhere)], .container(200))
    #expect(none?.kind == .noTransport)
    #expect(none?.remedy == "A container is reached by local, ssh, shell; configured are agent.")
  }
}

extension ClusterConfiguration {
  /// A cluster that is never asked anything.
  fileprivate static var unused: ClusterConfiguration {
    ClusterConfiguration(
      name: "unused", hosts: [APIHost(host: "127.0.0.1", port: 1)],
      credential: .token(id: "root@pam!t", secret: Secret("unused")))
  }
}
