/// What faults do to a request. The places at which a connection asks for it:
///
/// - the sender is known (or sent away): ``drawFaults(_:_:)`` says what the request meets; its `delay` passes before the
///   request is carried out;
/// - it would be carried out: ``spoil(_:_:)`` instead, where the plan's ending says so;
/// - its answer would be written, or the 101 of a websocket: ``cut(_:_:)`` instead.
extension Connection {
  /// Draws the faults that a request meets; nil where one of them ended this very connection.
  func drawFaults(_ head: RequestHead, _ identity: Identity?) -> RequestPlan? {
    let faults = node.cluster.faults
    guard faults.watchesRequests, entry != nil else { return plan }
    let plan = faults.plan(
      RequestFacts(
        method: head.method, path: head.path, user: identity?.authID, node: node.name,
        worker: worker, hasTicket: identity.map { !$0.isToken } ?? false,
        isUpgrade: head.method == "GET" && head.header("upgrade") != nil))
    entry?.faults = plan.faults
    if case .deaf = phase { return nil }
    return plan
  }

  /// Answers wrongly, or not at all; the request is not carried out.
  func spoil(_ ending: RequestPlan.Ending, _ request: ClientRequest) {
    guard let stream else { return }
    switch ending {
    case .status(let status, let message):
      if status == 401 || status >= 595 {
        respond(.bare(status, message))
      } else if let formatter = request.address.flatMap({ Formatter(rawValue: $0.format) }) {
        respond(
          status < 400
            ? formatter.success(APIResult(.null), request.subject)
            : formatter.failure(
              APIError(status: status, message: message), request.subject,
              hasMessages: node.era.errorBodiesHaveMessages))
      } else {
        respond(.plain(status, message + "\n"))
      }
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
    case .dropAnswer, .truncate: break
    }
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
