/// Why a simulator didn't start.
public enum SimulatorError: Error, Sendable, CustomStringConvertible {
  /// The configuration contradicts itself or PVE's rules.
  case configuration(String)
  /// The port can't be listened on.
  case listen(String)
  /// The state file can't be used.
  case state(String)
  /// No certificate or key could be made.
  case certificate(String)

  /// A sentence.
  public var description: String {
    switch self {
    case .configuration(let why): "the simulated node's configuration is wrong: \(why)"
    case .listen(let why): "the simulated node can't listen: \(why)"
    case .state(let why): "the simulated node's state can't be used: \(why)"
    case .certificate(let why): "the simulated node has no certificate: \(why)"
    }
  }
}
