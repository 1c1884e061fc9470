import EventLoop

/// Spoils a console's output on its way to the client: loses, repeats and swaps pieces, cuts, slows down.
///
/// A piece is what the backend sent at once. What happens to which piece follows from the faults' seeds.
final class ConsoleSpoiler {
  private let plan: ConsolePlan
  private let loop: Loop
  private let send: (UnsafeRawBufferPointer) -> Void
  private let cut: () -> Void
  private var pieces = 0
  private var held: [UInt8]?
  private var heldTimer: LoopTimer?
  private var passed = 0
  private var isOver = false
  private var queue = ByteQueue()
  private var pace: LoopTimer?

  /// A held piece goes without a successor after this.
  private static let patience = Duration.milliseconds(600)
  /// The pulse of a slow console.
  private static let pulse = Duration.milliseconds(20)

  /// - Parameters:
  ///   - send: takes what gets through.
  ///   - cut: the console ends.
  init(
    _ plan: ConsolePlan, loop: Loop, send: @escaping (UnsafeRawBufferPointer) -> Void,
    cut: @escaping () -> Void
  ) {
    self.plan = plan
    self.loop = loop
    self.send = send
    self.cut = cut
  }

  /// Bytes that wait here.
  var waiting: Int { queue.count + (held?.count ?? 0) }

  /// A piece of the console's output.
  func output(_ piece: UnsafeRawBufferPointer) {
    guard !isOver else { return }
    let number = pieces
    pieces += 1
    func strikes(_ fault: (odds: Double, dice: Dice)?) -> Bool {
      fault.map { $0.dice.fraction(number) < $0.odds } ?? false
    }
    if strikes(plan.loss) { return }
    if held == nil, strikes(plan.reorder) {
      held = Array(piece)
      heldTimer = loop.schedule(after: ConsoleSpoiler.patience) { [weak self] in self?.release() }
      return
    }
    paced(piece)
    if strikes(plan.repetition) { paced(piece) }
    release()
  }

  /// The connection is over.
  func stop() {
    isOver = true
    heldTimer?.cancel()
    pace?.cancel()
    queue.removeAll()
    held = nil
  }

  private func release() {
    heldTimer?.cancel()
    guard let piece = held else { return }
    held = nil
    piece.withUnsafeBytes { paced($0) }
  }

  private func paced(_ bytes: UnsafeRawBufferPointer) {
    guard plan.rate != nil else {
      pass(bytes)
      return
    }
    queue.append(bytes)
    if pace == nil { beat() }
  }

  private func beat() {
    pace = nil
    guard let rate = plan.rate, !isOver, !queue.isEmpty else { return }
    let share = max(1, Int(Double(rate) * (ConsoleSpoiler.pulse / .seconds(1))))
    // A rate below one byte a pulse makes the pulse longer.
    let rest = max(ConsoleSpoiler.pulse, .seconds(1) * (Double(share) / Double(rate)))
    let bytes = queue.removeFirst(share)
    bytes.withUnsafeBytes { pass($0) }
    guard !isOver else { return }
    pace = loop.schedule(after: rest) { [weak self] in self?.beat() }
  }

  private func pass(_ bytes: UnsafeRawBufferPointer) {
    guard !isOver else { return }
    guard let limit = plan.cutAfter, passed + bytes.count >= limit else {
      passed += bytes.count
      send(bytes)
      return
    }
    let rest = limit - passed
    if rest > 0 { send(UnsafeRawBufferPointer(rebasing: bytes[..<rest])) }
    passed = limit
    stop()
    cut()
  }
}
