import EventLoop

/// Whether other nodes and clients reach a node.
public enum Reachability: String, Sendable, Hashable, CaseIterable {
  /// It answers.
  case up
  /// It is switched off, and its address refuses connections.
  case refused
  /// Nothing answers at its address; connecting fails after a while.
  case unreachable
  /// It takes connections and never answers.
  case hanging
}

/// How pveproxy passes a call on to the node that the path names.
///
/// Operations that the schema marks `proxyto` are passed on with the caller's credentials; console mints and
/// websockets never are. A call that was passed on once is not passed on again. What fails between the two nodes
/// is a 595 (connecting) or a 596 (after connecting, also 30 s without an answer), made by the HTTP client of the
/// node that was asked.
extension PVENode {
  /// How long pveproxy waits for another node (30 s).
  private var patience: Duration { timings.forwarding }

  /// Where a call has to run, or what comes of it where it can't.
  enum Destination {
    case here
    case node(PVENode)
    case failed(APIError, after: Duration)
  }

  /// Finds out where a call runs that the schema marks as forwarded.
  func destination(_ node: String, isForwarded: Bool) throws(APIError) -> Destination {
    guard node != name else { return .here }
    guard let other = cluster.node(named: node) else { throw PVENode.unknownHost(node) }
    guard !isForwarded else { throw .died("proxy loop detected") }
    switch other.reachability {
    case .up: return .node(other)
    case .refused:
      return .failed(.proxied(595, "Connection refused"), after: .zero)
    case .unreachable:
      return .failed(.proxied(595, "No route to host"), after: min(patience, .seconds(3)))
    case .hanging:
      return .failed(.proxied(596, "Connection timed out"), after: patience)
    }
  }

  /// Fails as the lookup of an unknown node's address does.
  func resolve(node: String) throws(APIError) {
    guard knows(node: node) else { throw PVENode.unknownHost(node) }
  }

  private static func unknownHost(_ node: String) -> APIError {
    .died(
      "hostname lookup '\(node)' failed - failed to get address info for: \(node): "
        + "Name or service not known")
  }
}

extension APIError {
  /// What pveproxy's own HTTP client reports of a call that it passed on: a reason phrase, no body.
  static func proxied(_ status: Int, _ reason: String) -> APIError {
    APIError(status: status, message: reason, isBare: true)
  }
}
