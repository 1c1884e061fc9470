import EventLoop

/// What an agent says to one command.
enum AgentAnswer {
  /// Its `return` value.
  case value(JSON)
  /// Its error, e.g. `GenericError` and a sentence.
  case refused(class: String, text: String)
  /// Nothing within the time.
  case timedOut
  /// There was no way to ask it.
  case unreachable

  static func failed(_ text: String) -> AgentAnswer { .refused(class: "GenericError", text: text) }
}

/// An agent as the node talks to it: a command of the QEMU guest agent's protocol in, an answer out. On the loop.
protocol GuestAgent: AnyObject {
  /// Runs a command, e.g. `guest-exec`. `done` is called at most once, and not after ``giveUp()``. The next
  /// command comes after the answer, or after giving up.
  func execute(_ command: String, _ arguments: JSON?, _ done: @escaping (AgentAnswer) -> Void)
  /// Nobody waits for the answer any more.
  func giveUp()
  /// The guest stops.
  func stop()
}

/// The way to one VM's agent: one caller at a time, the others wait. Waiting counts toward a call's time, as it does
/// on PVE, where the agent's socket serves one connection and the next hangs in the queue.
final class AgentLine {
  private struct Call {
    var number: Int
    var command: String
    var arguments: JSON?
    var done: (AgentAnswer) -> Void
    var timer: LoopTimer?
  }

  private let loop: Loop
  /// Who answers at the moment; nil for nobody.
  private let agent: (String) -> (any GuestAgent)?
  private var waiting: [Call] = []
  private var running: Call?
  private var runningAgent: (any GuestAgent)?
  private var lastNumber = 0
  private let latency: Duration

  /// - Parameter agent: called when a command's turn has come, with the command; nil means that nothing will answer.
  init(loop: Loop, latency: Duration, agent: @escaping (String) -> (any GuestAgent)?) {
    self.loop = loop
    self.latency = latency
    self.agent = agent
  }

  /// Asks the agent; `done` comes once, after `patience` at the latest.
  func call(
    _ command: String, _ arguments: JSON? = nil, within patience: Duration,
    _ done: @escaping (AgentAnswer) -> Void
  ) {
    lastNumber += 1
    let number = lastNumber
    var call = Call(number: number, command: command, arguments: arguments, done: done)
    call.timer = loop.schedule(after: patience) { [weak self] in self?.expired(number) }
    waiting.append(call)
    next()
  }

  private func next() {
    guard running == nil, !waiting.isEmpty else { return }
    let call = waiting.removeFirst()
    running = call
    guard latency > .zero else {
      begin(call)
      return
    }
    loop.schedule(after: latency) { [weak self] in
      guard let self, self.running?.number == call.number else { return }
      self.begin(call)
    }
  }

  private func begin(_ call: Call) {
    // Without an agent the call waits for its time to pass, as the ping into a silent port does.
    guard let agent = agent(call.command) else { return }
    runningAgent = agent
    agent.execute(call.command, call.arguments) { [weak self] answer in
      self?.finish(call.number, answer)
    }
  }

  private func finish(_ number: Int, _ answer: AgentAnswer) {
    guard let call = running, call.number == number else { return }
    running = nil
    runningAgent = nil
    call.timer?.cancel()
    call.done(answer)
    next()
  }

  private func expired(_ number: Int) {
    if running?.number == number {
      runningAgent?.giveUp()
      finish(number, .timedOut)
    } else if let i = waiting.firstIndex(where: { $0.number == number }) {
      waiting.remove(at: i).done(.unreachable)
    }
  }

  /// The guest stops: nobody gets an answer.
  func hangUp() {
    let all = (running.map { [$0] } ?? []) + waiting
    runningAgent?.giveUp()
    running = nil
    runningAgent = nil
    waiting = []
    for call in all {
      call.timer?.cancel()
      call.done(.unreachable)
    }
  }
}
