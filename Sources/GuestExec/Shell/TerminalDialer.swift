import ConsoleDial
import ConsoleProtocol
import EventLoop
import ProxmoxClient
import Synchronization

/// Opens terminals of PVE: mints, dials, and mints again where a fresh port may do better.
final class TerminalDialer: Sendable {
  /// How often a terminal is minted before its failure is told.
  private static let attempts = 3

  let client: ProxmoxClient
  private let loops: LoopGroup
  private let contexts = Mutex<[TLSPolicy: TLSContext]>([:])

  init(client: ProxmoxClient, loops: LoopGroup) {
    self.client = client
    self.loops = loops
  }

  /// Opens one.
  /// - Parameter user: the login that must mint; see ``ProxmoxClient/mint(_:of:size:as:)``.
  /// - Throws: what refused it; nothing was typed.
  func open(
    _ console: Console, of place: Place, as user: String? = nil, size: TerminalSize?,
    timeout: Duration
  ) async throws(ExecFailure) -> OnLoop<TerminalLine> {
    var attempt = 1
    while true {
      let minted = try await mint(console, of: place, as: user)
      let box = await dial(minted, size: size, timeout: timeout)
      switch box {
      case .success(let line): return line
      case .failure(let failed):
        guard attempt < Self.attempts, failed.failure.isWorthAnotherMint, !Task.isCancelled else {
          throw ExecFailure(failed.failure, host: minted.plan.host)
        }
        try? await Task.sleep(for: .milliseconds(300 * attempt))
        attempt += 1
      }
    }
  }

  private struct DialFailure: Error { var failure: UpstreamFailure }

  private func mint(
    _ console: Console, of place: Place, as user: String?
  ) async throws(ExecFailure) -> MintedConsole {
    let plan: UpstreamPlan
    do throws(PVEError) {
      plan = try await client.mint(console, of: place, as: user)
    } catch {
      throw ExecFailure(error)
    }
    do throws(LoopError) {
      let addresses = try await SocketAddress.resolve(host: plan.host, port: plan.port)
      let tls = try plan.tls.map { policy throws(LoopError) in try context(for: policy) }
      return MintedConsole(
        plan: plan, addresses: addresses, tls: tls, place: place, loginOver: {})
    } catch {
      throw ExecFailure(
        .unreachable, "The API host \(plan.host) can't be dialled: \(error).",
        remedy: "Check the cluster's hosts and tls in the configuration.")
    }
  }

  private func context(for policy: TLSPolicy) throws(LoopError) -> TLSContext {
    if let known = contexts.withLock({ $0[policy] }) { return known }
    let made = try TLSContext.client(policy)
    contexts.withLock { $0[policy] = made }
    return made
  }

  private func dial(
    _ minted: MintedConsole, size: TerminalSize?, timeout: Duration
  ) async -> Result<OnLoop<TerminalLine>, DialFailure> {
    let loop = loops.next()
    return await withCheckedContinuation { continuation in
      let once = Once(continuation)
      loop.execute {
        let holder = LineHolder()
        holder.line = TerminalLine(on: loop, to: minted, timeout: timeout, size: size) { failure in
          // The holder lives until the outcome is told, and breaks the cycle then.
          let line = holder.line
          holder.line = nil
          if let failure {
            once.resume(.failure(DialFailure(failure: failure)))
          } else if let line {
            once.resume(.success(OnLoop(line, loop: loop)))
          }
        }
      }
    }
  }

  /// Keeps a line alive while it is being dialled. Used on its loop only.
  private final class LineHolder { var line: TerminalLine? }
}

/// A continuation that may be resumed more than once; the first time counts.
final class Once<Value: Sendable>: Sendable {
  private let continuation: Mutex<CheckedContinuation<Value, Never>?>

  init(_ continuation: CheckedContinuation<Value, Never>) {
    self.continuation = Mutex(continuation)
  }

  func resume(_ value: Value) {
    let waiting = continuation.withLock { waiting in
      defer { waiting = nil }
      return waiting
    }
    waiting?.resume(returning: value)
  }
}

extension UpstreamFailure {
  /// Whether a fresh mint may do better: the worker gave up, or the host was busy.
  var isWorthAnotherMint: Bool {
    switch self {
    case .notConnected(.connectFailed), .notConnected(.connectTimedOut): true
    case .notConnected: false
    case .console(.upgradeRefused(let status, _, _)): status == 401 || status >= 500
    case .console(.closedEarly(.upgrade)), .console(.closedEarly(.login)): true
    case .console(.closedBeforeGreeting), .console(.termproxyRefused): true
    case .console: false
    case .silent(let stage): stage != "login"
    case .endedOpen: false
    }
  }

  /// One sentence for a person.
  var sentence: String {
    switch self {
    case .notConnected(.tlsUntrusted(let mismatch)):
      "its certificate is not trusted: \(mismatch.reason)"
    case .notConnected(.connectFailed(let reason)), .notConnected(.tlsFailed(let reason)),
      .notConnected(.failed(let reason)), .endedOpen(.failed(let reason)),
      .endedOpen(.tlsFailed(let reason)):
      "\(reason)"
    case .notConnected(.connectTimedOut): "it did not answer the connection"
    case .notConnected: "it closed the connection"
    case .silent("open"): "it stopped answering"
    case .silent(let stage): "nothing came during the \(stage)"
    case .endedOpen: "the terminal's connection ended"
    case .console(.ended), .console(.closedEarly(.open)): "the terminal's connection ended"
    case .console(let failure): failure.ending.sentence
    }
  }
}

extension ExecFailure {
  /// A terminal that didn't open.
  init(_ failure: UpstreamFailure, host: String) {
    switch failure {
    case .console(.upgradeRefused(let status, _, _)) where status == 403:
      self.init(
        .permissionDenied, "The API host \(host) refused the terminal: \(failure.sentence)",
        remedy: "Give the user the privilege Sys.Console (nodes) or VM.Console (guests).")
    case .console(.termproxyRefused):
      self.init(
        .loginFailed, "The terminal's worker did not accept the ticket.",
        remedy: "Check that the clocks of the nodes agree.")
    case .console:
      self.init(.unreachable, failure.sentence, remedy: "Try again.")
    default:
      self.init(
        .unreachable, "The terminal on the API host \(host) can't be opened: \(failure.sentence).",
        remedy: "Check the host and the network to it.")
    }
  }
}
