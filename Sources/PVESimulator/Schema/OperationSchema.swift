/// What PVE's schema says about one operation, in one era.
struct OperationSchema: Sendable {
  /// Who runs a call that names another node.
  enum Forwarding: Sendable {
    /// The node that was asked, as consoles do.
    case never
    /// The node of the path.
    case toNode
    /// Code decides; where the path names a node it is that one.
    case byCode
  }

  var method: String
  /// With parameters in braces, e.g. `/nodes/{node}/status`.
  var path: String
  /// Path parameters included.
  var parameters: PropertySchemas
  /// Whether parameters that the schema doesn't know are accepted.
  var allowsUnknownParameters = false
  var permission: Permission
  /// Whether handlers refuse more than the expression says.
  var handlerChecksMore = false
  /// Runs in the privileged daemon.
  var isProtected = false
  var forwarding = Forwarding.never
  /// Whether API tokens may call it.
  var allowsTokens = true
  /// Whether the answer may be a file.
  var isDownload = false
  var returns: ReturnType
}
