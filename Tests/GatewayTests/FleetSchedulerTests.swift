import Testing

@testable import Gateway

@Suite("The fleet scheduler")
struct FleetSchedulerTests {
  typealias Action = FleetScheduler.Action

  private func rules(
    _ concurrency: Int, _ change: (inout FleetScheduler.Rules) -> Void = { _ in }
  ) -> FleetScheduler.Rules {
    var out = FleetScheduler.Rules()
    out.concurrency = concurrency
    change(&out)
    return out
  }

  @Test("no more run than are allowed, and each end starts the next")
  func concurrency() {
    var fleet = FleetScheduler(nodes: [0, 0, 0, 0], rules: rules(2))
    #expect(fleet.begin() == [.start(0), .start(1)])
    #expect(fleet.ended(1, .succeeded) == [.start(2)])
    #expect(fleet.ended(0, .succeeded) == [.start(3)])
    #expect(fleet.ended(2, .succeeded) == [])
    #expect(fleet.ended(3, .succeeded) == [.ended])
    #expect(fleet.isOver && fleet.stop == nil && fleet.failures == 0)
  }

  @Test("nodes take turns, and a full node doesn't hold the others up")
  func perNode() {
    var fleet = FleetScheduler(nodes: [0, 0, 0, 1, 1], rules: rules(10) { $0.perNode = 1 })
    #expect(fleet.begin() == [.start(0), .start(3)])
    #expect(fleet.ended(3, .succeeded) == [.start(4)])
    #expect(fleet.ended(4, .succeeded) == [])
    #expect(fleet.ended(0, .succeeded) == [.start(1)])
    #expect(fleet.ended(1, .succeeded) == [.start(2)])
    #expect(fleet.ended(2, .succeeded) == [.ended])
    var turns = FleetScheduler(nodes: [0, 0, 1, 1], rules: rules(2))
    #expect(turns.begin() == [.start(0), .start(2)])
  }

  @Test("the rest begins only when all canaries have succeeded")
  func canaries() {
    var fleet = FleetScheduler(nodes: [0, 0, 1, 1], rules: rules(10) { $0.canaries = 2 })
    #expect((0..<4).map { fleet.isCanary($0) } == [true, false, true, false])
    #expect(fleet.begin() == [.start(0), .start(2)])
    #expect(fleet.ended(0, .succeeded) == [])
    #expect(fleet.ended(2, .succeeded) == [.start(1), .start(3)])
    #expect(fleet.ended(1, .failed(.exited)) == [])
    #expect(fleet.ended(3, .succeeded) == [.ended])
    #expect(fleet.stop == nil)
  }

  @Test(
    "a canary that fails stops the whole, whatever counts as a failure and however large the budget"
  )
  func canaryFails() {
    var fleet = FleetScheduler(
      nodes: [0, 0, 0],
      rules: rules(10) {
        $0.canaries = 2
        $0.budget = 100
        $0.counts = []
      })
    #expect(fleet.begin() == [.start(0), .start(1)])
    #expect(fleet.ended(0, .failed(.exited)) == [.stopped(.canaryFailed)])
    #expect(fleet.ended(1, .succeeded) == [.ended])
    #expect(fleet.stop == .canaryFailed)
    #expect(fleet.isWaiting(2))
  }

  @Test("more canaries than targets are all of them")
  func allCanaries() {
    var fleet = FleetScheduler(nodes: [0, 0], rules: rules(1) { $0.canaries = 5 })
    #expect(fleet.begin() == [.start(0)])
    #expect(fleet.ended(0, .succeeded) == [.start(1)])
    #expect(fleet.ended(1, .succeeded) == [.ended])
  }

  @Test("a budget of two bears two failures; with the third nothing new is started")
  func budget() {
    var fleet = FleetScheduler(
      nodes: Array(repeating: 0, count: 6), rules: rules(2) { $0.budget = 2 })
    #expect(fleet.begin() == [.start(0), .start(1)])
    #expect(fleet.ended(0, .failed(.lost)) == [.start(2)])
    #expect(fleet.ended(1, .failed(.notStarted)) == [.start(3)])
    #expect(fleet.ended(2, .failed(.timedOut)) == [.stopped(.budgetExceeded)])
    #expect(fleet.ended(3, .succeeded) == [.ended])
    #expect(fleet.failures == 3)
    #expect(fleet.isWaiting(4) && fleet.isWaiting(5))
  }

  @Test("what stops the whole may cancel what runs")
  func cancelling() {
    var fleet = FleetScheduler(
      nodes: [0, 0, 0],
      rules: rules(2) {
        $0.budget = 0
        $0.onStop = .cancel
      })
    #expect(fleet.begin() == [.start(0), .start(1)])
    #expect(fleet.ended(0, .failed(.signalled)) == [.stopped(.budgetExceeded), .cancel(1)])
    #expect(fleet.ended(1, .failed(.cancelled)) == [.ended])
  }

  @Test("only what counts is counted")
  func counts() {
    var fleet = FleetScheduler(
      nodes: [0, 0, 0],
      rules: rules(1) {
        $0.budget = 0
        $0.counts = [.lost]
      })
    #expect(fleet.begin() == [.start(0)])
    #expect(fleet.ended(0, .failed(.exited)) == [.start(1)])
    #expect(fleet.ended(1, .failed(.lost)) == [.stopped(.budgetExceeded), .ended])
  }

  @Test("the time of the whole")
  func timeOver() {
    var fleet = FleetScheduler(nodes: [0, 0], rules: rules(1))
    #expect(fleet.begin() == [.start(0)])
    #expect(fleet.timeOver() == [.stopped(.timedOut)])
    #expect(fleet.timeOver() == [])
    #expect(fleet.ended(0, .succeeded) == [.ended])
    #expect(fleet.timeOver() == [])
    var other = FleetScheduler(nodes: [0, 0], rules: rules(1) { $0.onStop = .cancel })
    _ = other.begin()
    #expect(other.timeOver() == [.stopped(.timedOut), .cancel(0)])
  }

  @Test("cancelled: what runs is cancelled, also when the whole was stopping already")
  func cancel() {
    var fleet = FleetScheduler(nodes: [0, 0, 0], rules: rules(2) { $0.budget = 0 })
    _ = fleet.begin()
    #expect(fleet.ended(0, .failed(.exited)) == [.stopped(.budgetExceeded)])
    #expect(fleet.cancel() == [.stopped(.cancelled), .cancel(1)])
    #expect(fleet.cancel() == [])
    #expect(fleet.ended(1, .failed(.cancelled)) == [.ended])
    var idle = FleetScheduler(nodes: [], rules: rules(1))
    #expect(idle.begin() == [.ended])
    #expect(idle.cancel() == [])
  }

  @Test("a busy way lowers its node's limit, and the target waits for another turn")
  func busy() {
    var fleet = FleetScheduler(nodes: [0, 0, 0], rules: rules(3))
    #expect(fleet.begin() == [.start(0), .start(1), .start(2)])
    #expect(fleet.ended(2, .busy) == [])
    #expect(fleet.isWaiting(2))
    #expect(fleet.ended(0, .succeeded) == [.start(2)])
    #expect(fleet.ended(1, .succeeded) == [])
    #expect(fleet.ended(2, .succeeded) == [.ended])
  }

  @Test(
    "a way that is busy with nothing of ours is left alone for longer and longer, and not for ever")
  func busyAlone() {
    var fleet = FleetScheduler(nodes: [0], rules: rules(3) { $0.busyTries = 3 })
    #expect(fleet.begin() == [.start(0)])
    for seconds in [1, 2, 4] {
      #expect(fleet.ended(0, .busy) == [.rest(node: 0, seconds: seconds)])
      #expect(fleet.rested(0) == [.start(0)])
      #expect(fleet.rested(0) == [])
    }
    #expect(fleet.ended(0, .busy) == [.ended])
    #expect(fleet.failures == 1)
  }

  @Test("ends of targets that don't run are passed over")
  func strays() {
    var fleet = FleetScheduler(nodes: [0, 0], rules: rules(1))
    _ = fleet.begin()
    #expect(fleet.ended(1, .succeeded) == [])
    #expect(fleet.ended(7, .succeeded) == [])
    #expect(fleet.ended(-1, .succeeded) == [])
    #expect(fleet.rested(9) == [])
    #expect(fleet.ended(0, .succeeded) == [.start(1)])
    #expect(fleet.ended(0, .succeeded) == [])
  }

  @Test("after a restart it goes on where it was")
  func restored() {
    var fleet = FleetScheduler(nodes: [0, 0, 0, 0, 0], rules: rules(2) { $0.canaries = 1 })
    fleet.restore(0, running: false, outcome: .succeeded)
    fleet.restore(1, running: true, outcome: nil)
    #expect(fleet.begin() == [.start(2)])
    #expect(fleet.ended(1, .succeeded) == [.start(3)])

    var failed = FleetScheduler(nodes: [0, 0], rules: rules(2) { $0.canaries = 1 })
    failed.restore(0, running: false, outcome: .failed(.exited))
    #expect(failed.begin() == [.stopped(.canaryFailed), .ended])

    var stopped = FleetScheduler(nodes: [0, 0], rules: rules(2))
    stopped.restore(1, running: true, outcome: nil)
    stopped.restore(stop: .cancelled)
    #expect(stopped.begin() == [.stopped(.cancelled), .cancel(1)])
    #expect(stopped.ended(1, .failed(.cancelled)) == [.ended])

    var over = FleetScheduler(nodes: [0], rules: rules(2))
    over.restore(0, running: false, outcome: .succeeded)
    #expect(over.begin() == [.ended])
  }

  @Test("whatever happens, the limits hold, every target has one turn, and the end comes once")
  func property() {
    var random = SeededGenerator(seed: 4)
    for _ in 0..<300 {
      let count = Int.random(in: 0...60, using: &random)
      let nodes = (0..<count).map { _ in Int.random(in: 0..<4, using: &random) }
      let limits = rules(Int.random(in: 1...8, using: &random)) {
        $0.perNode = Bool.random(using: &random) ? Int.random(in: 1...3, using: &random) : nil
        $0.canaries = Bool.random(using: &random) ? Int.random(in: 0...5, using: &random) : 0
        $0.budget = Bool.random(using: &random) ? Int.random(in: 0...5, using: &random) : nil
        $0.onStop = Bool.random(using: &random) ? .cancel : .finish
      }
      var fleet = FleetScheduler(nodes: nodes, rules: limits)
      var running: [Int] = []
      var resting: [Int] = []
      var finished: Set<Int> = []
      var ends = 0
      var stops = 0
      var canariesDone = 0
      func take(_ actions: [Action]) {
        for action in actions {
          switch action {
          case .start(let i):
            #expect(!running.contains(i) && !finished.contains(i))
            #expect(stops == 0)
            if !fleet.isCanary(i) { #expect(canariesDone == min(limits.canaries, count)) }
            running.append(i)
            #expect(running.count <= limits.concurrency)
            if let most = limits.perNode {
              #expect(running.filter { nodes[$0] == nodes[i] }.count <= most)
            }
          case .cancel(let i): #expect(running.contains(i))
          case .rest(let node, _): resting.append(node)
          case .stopped: stops += 1
          case .ended: ends += 1
          }
        }
      }
      take(fleet.begin())
      var steps = 0
      while ends == 0, steps < 5000 {
        steps += 1
        if !resting.isEmpty, running.isEmpty || Bool.random(using: &random) {
          take(fleet.rested(resting.removeFirst()))
          continue
        }
        guard let at = running.indices.randomElement(using: &random) else { break }
        let target = running.remove(at: at)
        let outcome: FleetScheduler.Outcome =
          switch Int.random(in: 0..<20, using: &random) {
          case 0: .failed(.exited)
          case 1: .failed(.lost)
          case 2, 3: .busy
          default: .succeeded
          }
        if outcome == .succeeded, fleet.isCanary(target) { canariesDone += 1 }
        let actions = fleet.ended(target, outcome)
        if !fleet.isWaiting(target) { finished.insert(target) }
        take(actions)
        if Int.random(in: 0..<400, using: &random) == 0 { take(fleet.cancel()) }
      }
      #expect(ends == 1 && fleet.isOver && running.isEmpty)
      #expect(fleet.stop != nil || finished.count == count)
    }
  }

  @Test("ten thousand targets take no time that grows with their square")
  func large() {
    var fleet = FleetScheduler(
      nodes: (0..<10_000).map { $0 % 50 }, rules: rules(100) { $0.perNode = 4 })
    var open = fleet.begin()
    var steps = 0
    while let action = open.popLast(), steps < 100_000 {
      steps += 1
      if case .start(let i) = action { open += fleet.ended(i, .succeeded) }
    }
    #expect(fleet.isOver)
    #expect(steps == 10_001)
  }
}
