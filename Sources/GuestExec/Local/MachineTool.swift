import ConsoleProtocol
import Glibc
import ProxmoxClient
import Synchronization

/// `qm guest` on this machine: the guest agent's calls without the API and without a credential.
///
/// What is run goes in through standard input where the guest has a POSIX shell, so that no argument and no variable
/// stands in this machine's list of processes. `qm guest exec` and `exec-status` print what the API answers (pve-protocol
/// §5.2), as JSON.
struct MachineTool: Sendable {
  /// `qm`'s path.
  let path: String
  /// Whether the guest is Windows, which has no `/bin/sh`.
  var isWindows = false

  /// Starts a program (`qm guest exec --synchronous 0`). It is called once.
  /// - Parameter input: standard input, each byte as the character of its number.
  func exec(
    _ place: Place, _ command: [String], input: String?
  ) async throws(PVEError) -> Int {
    var command = command
    var bytes = input.flatMap { AgentText.bytes($0) } ?? []
    if !isWindows {
      let (setup, words) = ASCIIWords.expressions(command.map { Array($0.utf8) })
      let script = Array((setup + "exec " + words.joined(separator: " ")).utf8)
      // A shell that reads a script from its input takes more than its own; dd takes no byte too many.
      command = ["/bin/sh", "-c", "eval \"$(dd bs=1 count=\(script.count) 2>/dev/null)\""]
      bytes = script + bytes
    }
    var words = ["exec", Self.number(place), "--synchronous", "0"]
    if !bytes.isEmpty { words += ["--pass-stdin", "1"] }
    let value = try await run(words + ["--"] + command, input: bytes, place)
    guard let pid = value["pid"].int else { throw Self.malformed("pid", place) }
    return pid
  }

  /// How a program stands. The answer that tells its end is given once only.
  func status(_ place: Place, pid: Int) async throws(PVEError) -> AgentExecStatus {
    let value = try await run(["exec-status", Self.number(place), String(pid)], place)
    do throws(AgentExecStatus.BadField) {
      return try AgentExecStatus(value)
    } catch {
      throw Self.malformed(error.field, place)
    }
  }

  /// What the guest is. - Throws: why its agent can't be asked.
  func facts(_ place: Place) async throws(PVEError) -> AgentFacts {
    do throws(PVEError) {
      let value = try await run(["cmd", Self.number(place), "get-osinfo"], place)
      return AgentFacts(
        system: AgentOSInfo(id: value["id"].string, name: value["pretty-name"].string))
    } catch {
      // An agent that refuses one question still runs commands.
      guard error.message.hasPrefix("Agent error:") else { throw error }
      return AgentFacts()
    }
  }

  private static func number(_ place: Place) -> String { place.vmid?.description ?? "0" }

  private static func malformed(_ field: String, _ place: Place) -> PVEError {
    PVEError(
      kind: .malformedAnswer(field: field), message: "what qm printed can't be read",
      method: .get, path: "/nodes/\(place.node)/qemu")
  }

  private func run(
    _ words: [String], input: [UInt8] = [], _ place: Place
  ) async throws(PVEError) -> JSONValue {
    var program = ChildProgram(
      ([path, "guest"] + words).map { Array($0.utf8) },
      environment: LocalEnvironment.base(of: .current))
    program.diesWithUs = true
    // qm gives the agent five seconds, and twice three before.
    let ran = await CapturedChild.run(program, input: input, limit: .seconds(60))
    func error(_ kind: PVEError.Kind, _ message: String) -> PVEError {
      PVEError(
        kind: kind, message: message, method: .post,
        path: "/nodes/\(place.node)/qemu/\(Self.number(place))/agent")
    }
    guard let ran else { throw error(.connectFailed, "'\(path)' can't be started") }
    guard ran.end == .exited(0) else {
      let said = PctText.lastLine(String(decoding: ran.errors, as: UTF8.self))
      guard case .exited = ran.end else { throw error(.timedOut(.total), "qm did not end") }
      if said.contains(".conf' does not exist") { throw error(.guestNotFound, said) }
      if said.hasPrefix("VM "), said.hasSuffix("is not running") || said.hasSuffix(" not running") {
        throw error(.guestNotRunning, said)
      }
      throw error(.failed, said)
    }
    guard let value = try? JSONParser.parse(ran.output) else {
      throw Self.malformed("output", place)
    }
    return value
  }
}

/// A child that is given its whole input, and whose whole output is wanted.
final class CapturedChild: ChildHandler {
  /// Two streams of the agent's 16 MiB, in which a byte may be six characters.
  private static let most = 2 * 6 * ProxmoxClient.agentCapture + (1 << 20)

  private struct State {
    var end: Child.End?
    var output: [UInt8] = []
    var errors: [UInt8] = []
    var waiter: CheckedContinuation<Void, Never>?
  }
  private let state = Mutex(State())

  func child(_ child: Child, wrote bytes: [UInt8], to stream: Child.Output) -> Bool {
    state.withLock { state in
      if stream == .stdout {
        if state.output.count < Self.most { state.output += bytes }
      } else {
        state.errors = Array((state.errors + bytes).suffix(4096))
      }
    }
    return true
  }

  func child(_ child: Child, ended: Child.End) {
    let waiter = state.withLock { state in
      state.end = ended
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }

  /// Runs it to its end; after `limit` it is killed.
  /// - Returns: nil where it could not be started.
  static func run(
    _ program: ChildProgram, input: [UInt8], limit: Duration
  ) async -> (end: Child.End, output: [UInt8], errors: [UInt8])? {
    let handler = CapturedChild()
    let child: Child
    do throws(ChildFailure) {
      child = try await Child.start(program, handler: handler)
    } catch {
      return nil
    }
    let clock = Task {
      guard (try? await Task.sleep(for: limit)) != nil else { return }
      child.signal(SIGKILL)
    }
    defer { clock.cancel() }
    await child.write(input)
    child.closeInput()
    await withCheckedContinuation { continuation in
      let isOver = handler.state.withLock { state -> Bool in
        if state.end != nil { return true }
        state.waiter = continuation
        return false
      }
      if isOver { continuation.resume() }
    }
    return handler.state.withLock { ($0.end ?? .unknown("it is gone"), $0.output, $0.errors) }
  }
}
