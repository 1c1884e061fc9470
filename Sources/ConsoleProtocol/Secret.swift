/// A credential, ticket, password or link token. It can't be printed, logged, interpolated or reflected by
/// accident: every description is the same word, whatever it holds.
///
/// The one way out is ``reveal()``, which is easy to search for.
public struct Secret: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable, Decodable
{
  private let value: String

  /// Wraps a value. Nothing is trimmed.
  public init(_ value: String) { self.value = value }

  /// Reads the secret from a string, as configuration files hold it.
  public init(from decoder: any Decoder) throws {
    value = try decoder.singleValueContainer().decode(String.self)
  }

  /// The secret itself, for the one place that puts it on the wire.
  public func reveal() -> String { value }

  /// Whether there is nothing in it.
  public var isEmpty: Bool { value.isEmpty }

  /// Always `‹secret›`.
  public var description: String { "‹secret›" }
  /// Always `‹secret›`.
  public var debugDescription: String { "‹secret›" }
  /// Has no children.
  public var customMirror: Mirror { Mirror(self, children: EmptyCollection<Mirror.Child>()) }

  /// Compares in time that depends on the lengths alone.
  public static func == (a: Secret, b: Secret) -> Bool {
    let x = Array(a.value.utf8)
    let y = Array(b.value.utf8)
    var difference = UInt8(x.count == y.count ? 0 : 1)
    for i in 0..<min(x.count, y.count) { difference |= x[i] ^ y[i] }
    return difference == 0
  }
}
