import ConsoleProtocol
import EventLoop
import Synchronization

/// A command behind a terminal, as its caller sees it. The connection is what keeps it: nothing finds it again, and
/// letting go ends it.
final class ShellProcess: ExecProcess {
  let handle: ExecHandle? = nil
  private let events: EventQueue
  private let driver: OnLoop<ShellDriver>

  private init(events: EventQueue, driver: OnLoop<ShellDriver>) {
    self.events = events
    self.driver = driver
  }

  deinit { driver.execute { $0.leave() } }

  /// Sends an order over an open terminal.
  /// - Parameter over: told once, when the terminal is given back.
  /// - Throws: what is known to have kept it from running.
  static func start(
    _ order: RunnerOrder, over line: OnLoop<TerminalLine>, of place: Place, plan: ShellPlan,
    options: ShellOptions, outputLimit: Int?, onOver: @escaping @Sendable () -> Void
  ) async throws(ExecFailure) -> ShellProcess {
    let events = EventQueue()
    let box = Canceller()
    let (outcome, driver) = await withTaskCancellationHandler {
      await withCheckedContinuation {
        (continuation: CheckedContinuation<(ShellDriver.Start, OnLoop<ShellDriver>?), Never>) in
        let once = Once(continuation)
        line.execute { line in
          let loop = line.loop
          let driver = DriverHolder()
          driver.driver = ShellDriver(
            line: line, order: order, place: place, plan: plan, options: options,
            outputLimit: outputLimit, events: events,
            started: { outcome in
              // Called on the loop.
              let made = driver.driver.map { OnLoop($0, loop: loop) }
              driver.driver = nil
              once.resume((outcome, made))
            }, onOver: onOver)
          guard let made = driver.driver else { return }
          let handle = OnLoop(made, loop: loop)
          events.whenRoom { handle.execute { $0.hasRoom() } }
          box.set { handle.execute { $0.cancel() } }
          made.start()
        }
      }
    } onCancel: {
      box.cancel()
    }
    box.clear()
    if case .failed(let failure) = outcome { throw failure }
    guard let driver else {
      throw ExecFailure(.cancelled, "The shell's session ended before the command was sent.")
    }
    return ShellProcess(events: events, driver: driver)
  }

  func next() async -> ExecEvent? { await events.next() }

  func write(_ bytes: [UInt8]) async throws(ExecFailure) {
    guard !bytes.isEmpty, !events.isOver else { return }
    let driver = driver
    await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
      let once = Once(continuation)
      driver.execute { $0.write(bytes, then: once) }
    }
  }

  func closeInput() async { driver.execute { $0.closeInput() } }
  func resize(_ size: TerminalSize) async { driver.execute { $0.resize(size) } }

  func signal(_ number: Int) async throws(ExecFailure) {
    guard (1...64).contains(number) else {
      throw .bad("signal", "is not between 1 and 64", "Give a signal's number, e.g. 2 for INT.")
    }
    let driver = driver
    let sent = await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
      let once = Once(continuation)
      driver.execute { once.resume($0.signal(number)) }
    }
    guard sent else {
      throw ExecFailure(
        .unsupported,
        "This terminal takes no signal but those that have a key: INT, QUIT and TSTP.",
        remedy: "Install Perl on the other side, or cancel the command.")
    }
  }

  func cancel() async { driver.execute { $0.cancel() } }
  func detach() async { driver.execute { $0.leave() } }
}

/// Keeps a driver alive while it starts. Made, read and emptied on its loop's thread.
///
/// Proof of `@unchecked Sendable`: the closures that hold it (`started`, and the job that makes it) run on one loop's
/// thread and nowhere else.
private final class DriverHolder: @unchecked Sendable { var driver: ShellDriver? }

/// What a cancelled task calls, once there is something to call.
final class Canceller: Sendable {
  private struct State {
    var isCancelled = false
    var action: (@Sendable () -> Void)?
  }
  private let state = Mutex(State())

  func set(_ action: @escaping @Sendable () -> Void) {
    let now = state.withLock { state in
      state.action = action
      return state.isCancelled
    }
    if now { action() }
  }

  func clear() { state.withLock { $0.action = nil } }

  func cancel() {
    let action = state.withLock { state in
      state.isCancelled = true
      return state.action
    }
    action?()
  }
}
