/// Finds operations by method and path.
///
/// The operations are those that the table has for the era. What the simulator does by hand is laid over them; the
/// others get the generic handler.
final class Router {
  /// One operation.
  final class Route {
    let method: String
    /// With parameters in braces.
    let path: String
    /// Names of the path's parameters, in order.
    let parameters: [String]
    /// What the node does, if somebody wrote it.
    fileprivate(set) var handler: Operation.Handler?
    /// Whether nobody wrote what it does.
    var isGeneric: Bool { handler == nil }
    private let entry: SchemaTable.Entry
    private unowned let table: SchemaTable
    private var known: OperationSchema?

    fileprivate init(_ entry: SchemaTable.Entry, _ table: SchemaTable) {
      method = entry.method
      path = entry.path
      parameters = entry.path.split(separator: "/").filter { $0.hasPrefix("{") }
        .map { String($0.dropFirst().dropLast()) }
      self.entry = entry
      self.table = table
    }

    /// What the table says; read at the first use.
    /// - Throws: a 500 for a broken table, which a test rules out.
    var schema: OperationSchema {
      get throws(APIError) {
        if let known { return known }
        do throws(SchemaReader.Malformed) {
          let schema = try table.operation(entry)
          known = schema
          return schema
        } catch {
          throw .died("\(error)")
        }
      }
    }
  }

  /// A path's node in the tree.
  private final class Branch {
    var literals: [String: Branch] = [:]
    var parameter: Branch?
    var parameterName: String?
    /// Whether the parameter takes the rest of the path with its slashes, as volumes and networks do.
    var takesRest = false
    var routes: [(method: String, route: Route)] = []

    func route(_ method: String) -> Route? { routes.first { $0.method == method }?.route }
  }

  /// What a path led to.
  struct Match {
    var route: Route
    /// Values of the path's parameters, in order.
    var values: [String]
  }

  private let root = Branch()
  private let table: SchemaTable
  /// Paths without parameters, found at one look.
  private var fixed: [String: Branch] = [:]
  /// Every operation of the era.
  private(set) var routes: [Route] = []
  /// Hand-written operations that no era's table has; a test rules them out.
  private(set) var strays: [String] = []

  init(_ operations: [Operation], era: Era) {
    table = SchemaTable(era: era)
    for entry in table.entries {
      let route = Route(entry, table)
      routes.append(route)
      let branch = branch(of: route.path)
      branch.routes.append((route.method, route))
      if route.parameters.isEmpty { fixed[route.path] = branch }
    }
    for operation in operations {
      guard let route = route(operation.method, template: operation.path) else {
        strays.append("\(operation.method) \(operation.path)")
        continue
      }
      route.handler = operation.handler
    }
  }

  private func branch(of path: String) -> Branch {
    var branch = root
    for part in path.split(separator: "/") {
      if part.hasPrefix("{") {
        if part == "{volume}" || part == "{cidr}" { branch.takesRest = true }
        let next = branch.parameter ?? Branch()
        branch.parameter = next
        branch.parameterName = String(part.dropFirst().dropLast())
        branch = next
      } else {
        let next = branch.literals[String(part)] ?? Branch()
        branch.literals[String(part)] = next
        branch = next
      }
    }
    return branch
  }

  private func existing(_ template: String) -> Branch? {
    var branch = root
    for part in template.split(separator: "/") {
      guard let next = part.hasPrefix("{") ? branch.parameter : branch.literals[String(part)]
      else { return nil }
      branch = next
    }
    return branch
  }

  /// The operation of a path with its parameters in braces.
  func route(_ method: String, template: String) -> Route? { existing(template)?.route(method) }

  /// The operation, and the path's parameters.
  func find(_ method: String, _ path: String) -> Match? {
    if let branch = fixed[path] {
      return branch.route(method).map { Match(route: $0, values: []) }
    }
    var branch = root
    var values: [String] = []
    var rest = path[...]
    while let start = rest.firstIndex(where: { $0 != "/" }) {
      rest = rest[start...]
      let end = rest.firstIndex(of: "/") ?? rest.endIndex
      let part = rest[..<end]
      if let next = branch.literals[String(part)] {
        branch = next
        rest = rest[end...]
      } else if let next = branch.parameter {
        guard !part.contains(where: \.isWhitespace) else { return nil }
        values.append(String(branch.takesRest ? rest : part))
        rest = branch.takesRest ? rest[rest.endIndex...] : rest[end...]
        branch = next
      } else {
        return nil
      }
    }
    return branch.route(method).map { Match(route: $0, values: values) }
  }

  /// Names of what lies directly below a path with its parameters in braces, parameters left out.
  func children(of template: String) -> [String] {
    existing(template)?.literals.keys.sorted() ?? []
  }

  /// The parameter directly below a path: `id` for `/cluster/backup`.
  func childParameter(of template: String) -> String? { existing(template)?.parameterName }
}
