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

  /// The full auth id of the caller, or an empty text.
  var authID: String { identity?.authID ?? "" }

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

/// Finds operations by method and path.
struct Router {
  private final class Branch {
    var literals: [String: Branch] = [:]
    var parameter: (name: String, branch: Branch)?
    var operations: [String: Operation] = [:]
  }

  private let root = Branch()

  init(_ operations: [Operation]) {
    for operation in operations {
      var branch = root
      for part in operation.path.split(separator: "/") {
        if part.hasPrefix("{") {
          if branch.parameter == nil {
            branch.parameter = (String(part.dropFirst().dropLast()), Branch())
          }
          branch = branch.parameter?.branch ?? branch
        } else {
          let next = branch.literals[String(part)] ?? Branch()
          branch.literals[String(part)] = next
          branch = next
        }
      }
      branch.operations[operation.method] = operation
    }
  }

  /// The operation, and the path's parameters.
  func find(_ method: String, _ path: String) -> (Operation, [(String, String)])? {
    var branch = root
    var found: [(String, String)] = []
    for part in path.split(separator: "/") {
      if let next = branch.literals[String(part)] {
        branch = next
      } else if let (name, next) = branch.parameter {
        found.append((name, String(part)))
        branch = next
      } else {
        return nil
      }
    }
    return branch.operations[method].map { ($0, found) }
  }
}

extension PVENode {
  /// Runs a call through what PVE runs it through, in PVE's order: find, token allowed, permission, forwarding,
  /// validation, handler.
  func perform(_ call: APICall) throws(APIError) -> APIResult {
    guard let (operation, found) = router.find(call.method, call.path) else {
      throw .notImplemented(call.method, call.path)
    }
    var values = Parameters()
    for (name, value) in found {
      values.set(name, .text(name == "node" && value == "localhost" ? self.name : value))
    }
    for pair in call.parameters.pairs {
      if found.contains(where: { $0.0 == pair.name }) {
        throw APIError(
          status: 400,
          message: "Parameter verification failed - duplicate parameter '\(pair.name)'")
      }
      values.set(pair.name, pair.value)
    }
    if !operation.allowsTokens, call.identity?.isToken == true {
      throw .forbidden("URI '\(call.path)' not available with API token, need proper ticket.\n")
    }
    try operation.permission.check(call.identity, arguments: values, access: access)
    if let name = values["node"]?.text {
      switch try route(operation, name, isForwarded: call.isForwarded) {
      case .here: break
      case .node(let other): return try other.run(operation, call.identity, values)
      case .failed(let error, let delay):
        return .later { [loop] done in
          loop.schedule(after: delay) { done(.failure(error)) }
        }
      }
    }
    return try run(operation, call.identity, values)
  }

  /// Validates and runs a call on this node.
  private func run(_ operation: Operation, _ identity: Identity?, _ values: Parameters)
    throws(APIError) -> APIResult
  {
    try PVENode.validate(values, operation.parameters)
    var result = try operation.handler(self, Arguments(identity: identity, values: values))
    result.isRelayed = operation.isProtected
    return result
  }

  private static func validate(_ values: Parameters, _ schema: [ParameterSchema]) throws(APIError) {
    var complaints: [APIError.Field] = []
    for pair in values.pairs {
      guard let rule = schema.first(where: { $0.name == pair.name }) else {
        complaints.append(
          .init(
            name: pair.name,
            text: "property is not defined in schema and the schema does not allow additional "
              + "properties"))
        continue
      }
      if let text = rule.complaint(about: pair.value) {
        complaints.append(.init(name: pair.name, text: text))
      }
      if let needs = rule.needs, values[needs] == nil {
        complaints.append(
          .init(name: needs, text: "missing property - '\(pair.name)' requires this property"))
      }
    }
    for rule in schema where !rule.isOptional && values[rule.name] == nil {
      complaints.append(.init(name: rule.name, text: "property is missing and it is not optional"))
    }
    if !complaints.isEmpty { throw .invalid(complaints) }
  }
}
