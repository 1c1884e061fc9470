import ConsoleProtocol
import EventLoop
import GuestExec
import ProxmoxClient

/// Commands with the cluster's own credential, from here.
final class DirectExec: ExecSource {
  private let client: ProxmoxClient
  private let loops: LoopGroup
  private let exec: GuestExec

  init(_ cluster: ClusterConfiguration, _ options: TransportOptions) throws {
    client = ProxmoxClient(cluster)
    loops = try Parsing.loops()
    exec = GuestExec(
      client: client,
      transports: try DirectTransports.all(client: client, loops: loops, options: options))
  }

  func start(_ wish: ExecWish, on target: Target) async throws -> ExecLine {
    if wish.detached {
      throw Failure.usage(
        "--detach leaves a command behind, and without a gateway nobody would keep its output.",
        remedy: "Give --gateway URL.")
    }
    let running = try await exec.start(wish.request, on: target, via: wish.via)
    return ExecLine(
      process: running.process,
      about: ExecAbout(
        target: running.place.description, node: running.place.node.value, name: running.place.name,
        transport: running.transport.rawValue, reason: running.reason))
  }

  func explain(_ wish: ExecWish, on target: Target) async throws -> [TransportOpinion] {
    let place = try await exec.place(of: target)
    return await exec.explain(wish.request, on: place)
      .filter { wish.via == nil || wish.via == $0.transport }
      .map { TransportOpinion($0, isNamed: wish.via != nil) }
  }

  var comfortableOutput: Int? { nil }

  func forget(_ line: ExecLine) async {}

  func close() async {
    loops.shutdown()
    client.shutdown()
  }
}

extension TransportOpinion {
  init(_ assessment: GuestExec.Assessment, isNamed: Bool) {
    switch assessment.verdict {
    case .possible(let why):
      self.init(
        transport: assessment.transport.rawValue, possible: true,
        chosen: isNamed || assessment.isChosen, sentence: why)
    case .impossible(let failure):
      self.init(
        transport: assessment.transport.rawValue, possible: false, sentence: failure.sentence,
        kind: failure.kind.rawValue, remedy: failure.remedy)
    }
  }
}
