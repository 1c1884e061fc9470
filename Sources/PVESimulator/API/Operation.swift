/// One operation of the API: what PVE's schema says about it, and what the node does.
///
/// The table of operations is data, so that the schema's remaining operations can be added from a generated
/// table, and eras can replace single rows.
struct Operation: Sendable {
  /// Runs with validated arguments.
  typealias Handler = @Sendable (PVENode, Arguments) throws(APIError) -> APIResult

  var method: String
  /// With parameters in braces, e.g. `/nodes/{node}/status`.
  var path: String
  /// Path parameters included.
  var parameters: [ParameterSchema] = []
  var permission: Permission = .anyUser
  /// Runs in the privileged daemon.
  var isProtected = false
  /// Forwarded to the node named in the path. Console operations are not.
  var isForwarded = false
  /// Whether API tokens may call it.
  var allowsTokens = true
  var handler: Handler

  /// An operation with every fact written out.
  init(
    method: String, path: String, parameters: [ParameterSchema] = [],
    permission: Permission = .anyUser, isProtected: Bool = false, isForwarded: Bool = false,
    allowsTokens: Bool = true, handler: @escaping Handler
  ) {
    self.method = method
    self.path = path
    self.parameters = parameters
    self.permission = permission
    self.isProtected = isProtected
    self.isForwarded = isForwarded
    self.allowsTokens = allowsTokens
    self.handler = handler
  }

  /// An operation whose facts are the schema's.
  init(_ method: String, _ path: String, _ handler: @escaping Handler) {
    self.init(method: method, path: path, handler: handler)
  }
}

/// Validated arguments of a call.
struct Arguments {
  /// Who calls. Operations that need nobody get nil.
  var identity: Identity?
  var values: Parameters
  /// The file that came with the call.
  var upload: UploadedFile?

  /// The full auth id of the caller, or an empty text.
  var authID: String { identity?.authID ?? "" }

  /// The items of a list: of an array, or of a text with a list in it.
  func list(_ name: String) -> [String] {
    switch values[name] {
    case .list(let items)?: items.compactMap(\.text)
    case .text(let text)?: splitList(text)
    case .object?, .null?, nil: []
    }
  }

  /// A text.
  func text(_ name: String) -> String? { values[name]?.text }
  /// A number.
  func integer(_ name: String) -> Int? { text(name).flatMap { Int($0) } }
  /// A truth value.
  func flag(_ name: String) -> Bool { text(name) == "1" }
  /// The path's node.
  var node: String { text("node") ?? "" }
  /// The path's guest.
  var vmid: Int { integer("vmid") ?? 0 }
}

extension PVENode {
  /// Runs a call through what PVE runs it through, in PVE's order: find, token allowed, permission, forwarding,
  /// validation, handler.
  func perform(_ call: APICall) throws(APIError) -> APIResult {
    guard let match = router.find(call.method, call.path) else {
      throw .notImplemented(call.method, call.path)
    }
    let route = match.route
    let schema = try route.schema
    var values = Parameters()
    for (name, value) in zip(route.parameters, match.values) {
      values.set(name, .text(name == "node" && value == "localhost" ? self.name : value))
    }
    for pair in call.parameters.pairs {
      if route.parameters.contains(pair.name) {
        throw .invalid([
          .init(name: pair.name, text: "duplicate parameter (already defined in URI)")
        ])
      }
      values.set(pair.name, pair.value)
    }
    if !schema.allowsTokens, call.identity?.isToken == true {
      throw .forbidden("URI '\(call.path)' not available with API token, need proper ticket.\n")
    }
    try schema.permission.check(call.identity, arguments: values, access: access)
    if schema.forwarding != .never, let name = values["node"]?.text {
      switch try destination(name, isForwarded: call.isForwarded) {
      case .here: break
      case .node(let other): return try other.run(route, schema, call, values)
      case .failed(let error, let delay):
        return .later { [loop] done in
          loop.schedule(after: delay) { done(.failure(error)) }
        }
      }
    }
    return try run(route, schema, call, values)
  }

  /// Validates and runs a call on this node.
  private func run(
    _ route: Router.Route, _ schema: OperationSchema, _ call: APICall, _ given: Parameters
  ) throws(APIError) -> APIResult {
    let values = Validation.normalized(given, schema, era)
    try Validation.check(values, against: schema)
    let arguments = Arguments(identity: call.identity, values: values, upload: call.upload)
    var result: APIResult
    if let handler = route.handler {
      result = try handler(self, arguments)
    } else {
      result = try answerGenerically(route, schema, arguments)
    }
    result.isRelayed = schema.isProtected
    return result
  }
}
