/// What faults do to a request. The places at which a connection asks for it:
///
/// - the sender is known (or sent away): ``drawFaults(_:_:)`` says what the request meets; its `delay` passes before the
///   request is carried out;
/// - it would be carried out: ``spoil(_:)`` instead, where the plan's ending says so;
/// - its answer would be sent: ``replaced(_:)`` is sent, where the plan has another one;
/// - its answer would be written, or the 101 of a websocket: ``cut(_:_:)`` instead.
extension Connection {
  /// Draws the faults that a request meets; nil where one of them ended this very connection.
  func drawFaults(_ head: RequestHead, _ identity: Identity?) -> RequestPlan? {
    guard entry != nil else { return plan }
    let faults = node.cluster.faults
    let other = node.passesOn(head)
    entry?.forwardedTo = other?.name
    guard !faults.records.isEmpty else { return plan }
    var plan = faults.plan(
      RequestFacts(
        method: head.method, path: head.path, user: identity?.authID, node: node.name,
        forwardedTo: other?.name, worker: worker, hasTicket: identity.map { !$0.isToken } ?? false,
        isUpgrade: head.method == "GET" && head.header("upgrade") != nil))
    if plan.isBehindProxy, let ending = plan.ending {
      if ending == .hang { plan.delay += node.timings.forwarding }
      plan.ending = ending.behindProxy
    }
    plan.method = head.method
    plan.path = head.path
    plan.delay += faults.agentDelay(path: head.path)
    entry?.faults = plan.faults
    if case .deaf = phase { return nil }
    return plan
  }

  /// Answers wrongly, or not at all; the request is not carried out.
  func spoil(_ ending: RequestPlan.Ending) {
    guard let stream else { return }
    switch ending {
    case .status(let status, let message): respond(failure(status, message))
    case .hang:
      journal(status: 0, reason: ending.note)
      phase = .deaf
    case .dropRequest:
      journal(status: 0, reason: ending.note)
      phase = .deaf
      stream.close()
    case .garbage(let bytes):
      journal(status: 0, reason: ending.note, bytes: bytes.count)
      phase = .deaf
      stream.write(bytes)
      stream.closeAfterFlush()
    case .statusAfter, .dropAnswer, .truncate: break
    }
  }

  /// The answer that a plan has instead of the right one.
  func replaced(_ response: Response) -> Response {
    guard case .statusAfter(let status, let message) = plan.ending else { return response }
    plan.ending = nil
    return failure(status, message)
  }

  private func failure(_ status: Int, _ message: String) -> Response {
    if status == 401 || status >= 595 { return .bare(status, message) }
    guard let address = APIAddress(plan.path), let formatter = Formatter(rawValue: address.format)
    else { return .plain(status, message + "\n") }
    let subject = Formatter.Subject(method: plan.method, path: address.path)
    return status < 400
      ? formatter.success(APIResult(.null), subject)
      : formatter.failure(
        APIError(status: status, message: message), subject,
        hasMessages: node.era.errorBodiesHaveMessages)
  }

  /// Sends the beginning of an answer, or none of it, and closes.
  func cut(_ bytes: [UInt8], _ ending: RequestPlan.Ending) {
    guard let stream else { return }
    phase = .deaf
    guard case .truncate(let count) = ending else {
      journal(status: 0, reason: ending.note)
      stream.close()
      return
    }
    journal(status: 0, reason: ending.note, bytes: min(count, bytes.count))
    stream.write(Array(bytes.prefix(count)))
    stream.closeAfterFlush()
  }
}

extension PVENode {
  /// The node to which a request is passed on; nil where it runs here.
  func passesOn(_ head: RequestHead) -> PVENode? {
    guard cluster.nodes.count > 1, let path = APIAddress(head.path)?.path,
      path.hasPrefix("/nodes/"), head.header("pvedisableproxy") == nil
    else { return nil }
    let named = String(path.dropFirst(7).prefix { $0 != "/" })
    guard named != name, let other = cluster.node(named: named),
      let route = router.find(head.method, path)?.route, let schema = try? route.schema,
      schema.forwarding != .never
    else { return nil }
    return other
  }
}
