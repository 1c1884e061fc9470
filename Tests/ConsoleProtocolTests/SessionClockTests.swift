import Testing

@testable import ConsoleProtocol

@Suite struct SessionClockTests {
  static func clock(_ change: (inout SessionClock.Policy) -> Void = { _ in }) -> SessionClock {
    var policy = SessionClock.Policy()
    change(&policy)
    return SessionClock(policy: policy, startingAt: .zero)
  }

  /// Runs from deadline to deadline; `each` may note things. Gives everything that was due, with its time.
  static func run(
    _ clock: inout SessionClock, until end: Duration,
    each: (Duration, SessionClock.Action, inout SessionClock) -> Void = { _, _, _ in }
  ) -> [(Duration, SessionClock.Action)] {
    var out: [(Duration, SessionClock.Action)] = []
    var last: Duration = .zero
    for _ in 0..<10_000 {
      guard let next = clock.nextDeadline, next <= end else { return out }
      last = max(last, next)
      for action in clock.due(at: last) {
        out.append((last, action))
        each(last, action, &clock)
      }
    }
    Issue.record("deadlines never move on")
    return out
  }

  static func answer(_ now: Duration, _ action: SessionClock.Action, _ clock: inout SessionClock) {
    if case .ping(let leg) = action { clock.note(.alive(leg), at: now) }
  }

  @Test("both legs are pinged every 25 seconds for as long as they answer")
  func pings() {
    var clock = Self.clock()
    let actions = Self.run(&clock, until: .seconds(100), each: Self.answer)
    #expect(actions.map(\.0) == [25, 25, 50, 50, 75, 75, 100, 100].map { .seconds($0) })
    #expect(actions.prefix(2).map(\.1) == [.ping(.viewer), .ping(.upstream)])
  }

  @Test("a leg that falls silent is dead within 60 seconds, and that is told once")
  func dead() {
    for leg in [SessionClock.Leg.viewer, .upstream] {
      var clock = Self.clock()
      let actions = Self.run(&clock, until: .seconds(1000)) { now, action, clock in
        if case .ping(let pinged) = action, pinged != leg || now < .seconds(100) {
          clock.note(.alive(pinged), at: now)
        }
      }
      #expect(actions.last?.1 == .dead(leg))
      #expect(actions.last?.0 == .seconds(75 + 60))
      #expect(clock.nextDeadline == nil)
      #expect(clock.due(at: .seconds(5000)).isEmpty)
    }
  }

  @Test("bytes are as good as a pong")
  func bytesAreLife() {
    var clock = Self.clock()
    for second in 1...600 {
      let now: Duration = .seconds(second)
      if second % 50 == 0 {
        clock.note(.received(.upstream), at: now)
        clock.note(.received(.viewer), at: now)
      }
      for action in clock.due(at: now) {
        if case .ping = action { continue }
        Issue.record("\(action)")
      }
    }
  }

  @Test("a leg from which nothing is read is not dead")
  func paused() {
    var clock = Self.clock()
    clock.note(.paused(.upstream), at: .seconds(1))
    let actions = Self.run(&clock, until: .seconds(300)) { now, action, clock in
      if action == .ping(.viewer) { clock.note(.alive(.viewer), at: now) }
    }
    #expect(!actions.contains { $0.1 == .dead(.upstream) })
    clock.note(.resumed(.upstream), at: .seconds(300))
    let after = Self.run(&clock, until: .seconds(500)) { now, action, clock in
      if action == .ping(.viewer) { clock.note(.alive(.viewer), at: now) }
    }
    #expect(after.last?.1 == .dead(.upstream))
    #expect(after.last?.0 == .seconds(360))
  }

  @Test("a viewer who takes nothing for too long in one go is too slow")
  func slowViewer() {
    var clock = Self.clock { $0.slowViewerLimit = .seconds(30) }
    clock.note(.paused(.upstream), at: .seconds(1))
    clock.note(.paused(.upstream), at: .seconds(20))
    clock.note(.resumed(.upstream), at: .seconds(30))
    clock.note(.paused(.upstream), at: .seconds(31))
    let actions = Self.run(&clock, until: .seconds(300), each: Self.answer)
    #expect(actions.last?.1 == .slowViewer)
    #expect(actions.last?.0 == .seconds(61))
  }

  @Test("without input it warns once, then ends; input starts it anew")
  func idle() {
    var clock = Self.clock { $0.idleLimit = .seconds(300) }
    var actions = Self.run(&clock, until: .seconds(250), each: Self.answer)
    #expect(actions.filter { $0.1 == .idleWarning(seconds: 60) }.map(\.0) == [.seconds(240)])
    clock.note(.input, at: .seconds(250))
    actions = Self.run(&clock, until: .seconds(2000), each: Self.answer)
    #expect(actions.filter { $0.1 == .idleWarning(seconds: 60) }.map(\.0) == [.seconds(490)])
    #expect(actions.last?.1 == .idle)
    #expect(actions.last?.0 == .seconds(550))
  }

  @Test("output alone is no input")
  func outputIsNotInput() {
    var clock = Self.clock { $0.idleLimit = .seconds(100) }
    for second in 0..<100 { clock.note(.received(.upstream), at: .seconds(second)) }
    #expect(clock.due(at: .seconds(100)) == [.idle])
  }

  @Test("a limit shorter than the warning just ends")
  func shortLimits() {
    var clock = Self.clock {
      $0.idleLimit = .seconds(10)
      $0.maximumDuration = .seconds(60)
    }
    #expect(clock.nextDeadline == .seconds(10))
    #expect(clock.due(at: .seconds(9)).isEmpty)
    #expect(clock.due(at: .seconds(10)) == [.idle])
  }

  @Test("the longest duration is warned of and kept, whatever happens")
  func maximumDuration() {
    var clock = Self.clock { $0.maximumDuration = .seconds(3600) }
    let actions = Self.run(&clock, until: .seconds(9999)) { now, action, clock in
      Self.answer(now, action, &clock)
      clock.note(.input, at: now)
    }
    #expect(
      actions.filter { $0.1 == .maximumDurationWarning(seconds: 60) }.map(\.0) == [.seconds(3540)])
    #expect(actions.last?.1 == .maximumDuration)
    #expect(actions.last?.0 == .seconds(3600))
  }

  @Test("a silent screen is kept awake, pongs don't count, bytes either way do")
  func rfbKeepAlive() {
    var clock = Self.clock { $0.rfbKeepAlive = .seconds(300) }
    let actions = Self.run(&clock, until: .seconds(1000), each: Self.answer)
    #expect(
      actions.filter { $0.1 == .rfbKeepAlive }.map(\.0) == [300, 600, 900].map { .seconds($0) })
    clock.note(.sentUpstream, at: .seconds(1000))
    clock.note(.received(.upstream), at: .seconds(1100))
    let more = Self.run(&clock, until: .seconds(1500), each: Self.answer)
    #expect(more.filter { $0.1 == .rfbKeepAlive }.map(\.0) == [.seconds(1400)])
  }

  @Test("a late timer does what is due once")
  func late() {
    var clock = Self.clock { $0.idleLimit = .seconds(1000) }
    #expect(
      clock.due(at: .seconds(970)) == [
        .ping(.viewer), .ping(.upstream), .idleWarning(seconds: 30),
      ])
    #expect(clock.due(at: .seconds(970)).count <= 1)
  }

  @Test("it is small")
  func small() { #expect(MemoryLayout<SessionClock>.size <= 512) }
}

@Suite struct TerminalCreditTests {
  @Test("reading stops at the high mark and goes on at the low one")
  func water() throws {
    var credit = TerminalCredit()
    credit.note(sent: (512 << 10) - 1)
    #expect(!credit.shouldPause)
    credit.note(sent: 1)
    #expect(credit.shouldPause)
    try credit.acknowledge((384 << 10) - 1)
    #expect(credit.shouldPause)
    try credit.acknowledge(384 << 10)
    #expect(!credit.shouldPause)
    try credit.acknowledge(384 << 10)
    #expect(credit.sent - credit.acknowledged == 128 << 10)
  }

  @Test("an acknowledgement of more than was sent, or going back, is refused and changes nothing")
  func hostile() throws {
    var credit = TerminalCredit()
    credit.note(sent: 100)
    #expect(throws: TerminalCredit.Violation.moreThanSent(acknowledged: 101, sent: 100)) {
      try credit.acknowledge(101)
    }
    #expect(throws: TerminalCredit.Violation.self) { try credit.acknowledge(.max) }
    try credit.acknowledge(50)
    #expect(throws: TerminalCredit.Violation.backwards(acknowledged: 49, before: 50)) {
      try credit.acknowledge(49)
    }
    #expect(credit.acknowledged == 50)
  }
}
