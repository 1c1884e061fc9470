import ConsoleProtocol
import Foundation
import GuestExec
import Logging
import ProxmoxClient
import Synchronization
import TestSupport
import Testing

@testable import Gateway

/// A transport whose commands do what a test says.
final class ScriptedTransport: ExecTransport {
  let name: TransportName
  let started = Shared<[ScriptedProcess]>([])
  let attached = Shared<[(handle: ExecHandle, from: ExecPosition)]>([])
  /// What the next starts do: nil to start, else to fail.
  let failure = Shared<ExecFailure?>(nil)
  /// Starts wait while this is set.
  let isHeld = Shared(false)
  private let make: @Sendable (ScriptedProcess) -> Void

  /// - Parameter make: called with each new process, before anybody sees it.
  init(
    _ name: TransportName = .agent, make: @escaping @Sendable (ScriptedProcess) -> Void = { _ in }
  ) {
    self.name = name
    self.make = make
  }

  func assess(_ request: ExecRequest, on place: Place) async -> TransportVerdict {
    failure.now.map { .impossible($0) } ?? .possible("It is scripted.")
  }

  func start(
    _ request: ExecRequest, on place: Place
  ) async throws(ExecFailure) -> any ExecProcess {
    while isHeld.now {
      if Task.isCancelled { throw ExecFailure(.cancelled, "It was cancelled.") }
      try? await Task.sleep(for: .milliseconds(2))
    }
    if let failure = failure.now { throw failure }
    let number = started.withLock { $0.count }
    let process = ScriptedProcess(
      request: request, handle: ExecHandle(transport: name, place: place, notes: ["n": "\(number)"])
    )
    make(process)
    started.withLock { $0.append(process) }
    return process
  }

  func attach(_ handle: ExecHandle, from kept: ExecPosition) async -> any ExecProcess {
    let process = ScriptedProcess(request: ExecRequest(["attached"]), handle: handle)
    process.attachedFrom = kept
    make(process)
    attached.withLock { $0.append((handle, kept)) }
    started.withLock { $0.append(process) }
    return process
  }
}

/// A command that a test plays.
final class ScriptedProcess: ExecProcess {
  private struct State {
    var events: [ExecEvent] = []
    var isOver = false
    var waiting: CheckedContinuation<Void, Never>?
    var source: (@Sendable () async -> ExecEvent?)?
  }
  let request: ExecRequest
  let handle: ExecHandle?
  let input = Shared<[UInt8]>([])
  let inputIsClosed = Shared(false)
  let inputIsHeld = Shared(false)
  let signals = Shared<[Int]>([])
  let sizes = Shared<[TerminalSize]>([])
  let isCancelled = Shared(false)
  let isDetached = Shared(false)
  private let state = Mutex(State())
  private let from = Mutex<ExecPosition?>(nil)

  init(request: ExecRequest, handle: ExecHandle?) {
    self.request = request
    self.handle = handle
  }

  var attachedFrom: ExecPosition? {
    get { from.withLock { $0 } }
    set { from.withLock { $0 = newValue } }
  }

  /// Events come from here instead.
  func source(_ body: @escaping @Sendable () async -> ExecEvent?) {
    state.withLock { $0.source = body }
  }

  func tell(_ event: ExecEvent) {
    let waiting = state.withLock { state in
      state.events.append(event)
      defer { state.waiting = nil }
      return state.waiting
    }
    waiting?.resume()
  }

  func out(_ text: String) { tell(.stdout(Array(text.utf8))) }
  func end(_ end: ExecEnd) { tell(.ended(ExecResult(end))) }

  func next() async -> ExecEvent? {
    if let source = state.withLock({ $0.source }) { return await source() }
    while true {
      let (event, over) = state.withLock { state -> (ExecEvent?, Bool) in
        guard !state.events.isEmpty else { return (nil, state.isOver) }
        let event = state.events.removeFirst()
        if case .ended = event { state.isOver = true }
        return (event, false)
      }
      if let event { return event }
      if over || isDetached.now { return nil }
      await withCheckedContinuation { continuation in
        let now = state.withLock { state -> Bool in
          if !state.events.isEmpty || state.isOver || isDetached.now { return true }
          state.waiting = continuation
          return false
        }
        if now { continuation.resume() }
      }
    }
  }

  func write(_ bytes: [UInt8]) async throws(ExecFailure) {
    while inputIsHeld.now { try? await Task.sleep(for: .milliseconds(2)) }
    input.withLock { $0 += bytes }
  }
  func closeInput() async { inputIsClosed.withLock { $0 = true } }
  func resize(_ size: TerminalSize) async { sizes.withLock { $0.append(size) } }
  func signal(_ number: Int) async throws(ExecFailure) { signals.withLock { $0.append(number) } }
  func cancel() async {
    isCancelled.withLock { $0 = true }
    end(.cancelled)
  }
  func detach() async {
    isDetached.withLock { $0 = true }
    let waiting = state.withLock { state in
      defer { state.waiting = nil }
      return state.waiting
    }
    waiting?.resume()
  }
}

/// A job engine with a scripted transport, in a folder that may outlive it.
final class JobBed: Sendable {
  let engine: JobEngine
  let transport: ScriptedTransport
  let lines = LogLines()
  let key: APIKey
  let folder: String

  static func folder() -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent(
      "sallyport-jobtest-\(UUID().uuidString)"
    ).path
  }

  init(
    folder: String, transport: ScriptedTransport = ScriptedTransport(),
    _ change: (inout ExecConfiguration) -> Void = { _ in }
  ) async throws {
    self.folder = folder
    self.transport = transport
    guard let key = APIKey.generate(name: "portal") else { throw RawFailure(description: "no key") }
    self.key = key.key
    var configuration = ExecConfiguration()
    configuration.dataFolder = folder
    configuration.dataFolderIsChosen = true
    change(&configuration)
    let client = ProxmoxClient(
      ClusterConfiguration(
        name: "test", hosts: [APIHost(host: "127.0.0.1", port: 1)],
        credential: .token(id: "a@pam!b", secret: Secret("nothing"))))
    let lines = lines
    engine = try await JobEngine(
      configuration, clusters: Clusters([]),
      execs: ["test": GuestExec(client: client, transports: [transport])],
      logger: Logger(label: "test") { _ in lines.handler })
  }

  /// A bed that is taken down behind the body.
  static func with(
    transport: ScriptedTransport = ScriptedTransport(),
    _ change: (inout ExecConfiguration) -> Void = { _ in }, _ body: (JobBed) async throws -> Void
  ) async throws {
    let folder = folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let bed = try await JobBed(folder: folder, transport: transport, change)
    let result: Result<Void, any Error>
    do {
      try await body(bed)
      result = .success(())
    } catch {
      result = .failure(error)
    }
    for process in transport.started.now where !process.isDetached.now { process.end(.cancelled) }
    await bed.engine.stop(grace: .seconds(5))
    try result.get()
  }

  private static func place() throws -> JobPlace {
    let vmid = try #require(VMID(100))
    let node = try #require(NodeName("pve1"))
    return JobPlace(cluster: "test", place: Place(node: node, kind: .qemu(vmid), name: "web1"))
  }

  func submit(
    _ argv: [String] = ["true"], idempotencyKey: String? = nil,
    _ change: (inout JobOrder) -> Void = { _ in }
  ) async throws -> JobSummary {
    var order = JobOrder(target: .qemu(try #require(VMID(100))), request: ExecRequest(argv))
    change(&order)
    return try await engine.submit(
      order, by: key, idempotencyKey: idempotencyKey, at: try Self.place())
  }

  func over(_ id: String) async throws -> JobSummary {
    let summary = try await engine.find(id).over(within: .seconds(20))
    guard summary.state.isOver else { throw RawFailure(description: "job \(summary.json)") }
    return summary
  }

  /// The process of a job's command, once it runs.
  func process(_ id: String) async throws -> ScriptedProcess {
    let job = try await engine.find(id)
    await job.until(within: .seconds(20)) { $0.process != nil }
    guard let process = job.process as? ScriptedProcess else {
      throw RawFailure(description: "the job doesn't run: \(job.summary.json)")
    }
    return process
  }

  func output(_ id: String, _ stream: JobStream = .stdout) async throws -> String {
    let job = try await engine.find(id)
    let bytes = await job.output.read(stream, at: 0, count: 1 << 20)
    return String(decoding: bytes, as: UTF8.self)
  }
}
