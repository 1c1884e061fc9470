extension PVENode {
  /// Answers a call that nobody wrote a handler for: configuration is kept and read back, indexes list what lies
  /// below, tasks run and succeed, and the rest are plausible values of the type that the schema promises.
  func answerGenerically(_ route: Router.Route, _ schema: OperationSchema, _ arguments: Arguments)
    throws(APIError) -> APIResult
  {
    if schema.path.contains("/{vmid}/") {
      _ = try guest(arguments, schema.path.contains("/lxc/") ? .lxc : .qemu)
    }
    return try GenericCall(node: self, schema: schema, arguments: arguments).answer()
  }
}

/// One call of the generic handler.
struct GenericCall {
  let node: PVENode
  let schema: OperationSchema
  let arguments: Arguments

  /// Parameters that say how to write, and aren't written.
  private static let directions: Set = [
    "background_delay", "check-connection", "delete", "digest", "force", "lock-token", "moveto",
    "purge", "release-lock", "skip-cert-verification",
  ]
  /// What PVE keeps where it can't be read back.
  private static let secrets: Set = [
    "authentication-token", "otp", "password", "priv_key", "secret", "token",
  ]

  /// Parameters that name what isn't kept here.
  private static let others: Set = [
    "groupid", "node", "osdid", "poolid", "realm", "roleid", "storage", "tokenid", "upid", "userid",
    "vmid", "volume",
  ]

  var objects: ObjectStore { node.cluster.objects }

  // MARK: places

  /// `…/{id}` without its last part, and the name of the parameter.
  private var item: (parent: String, parameter: String)? { GenericCall.item(schema.path) }

  private static func item(_ template: String) -> (parent: String, parameter: String)? {
    guard template.hasSuffix("}"), let slash = template.lastIndex(of: "/") else { return nil }
    return (
      String(template[..<slash]),
      String(template[template.index(slash, offsetBy: 2)...].dropLast())
    )
  }

  /// Whether items of a path come from calls, so that those which nobody made aren't there.
  private func isCreatable(_ template: String) -> Bool {
    guard let (parent, parameter) = GenericCall.item(template),
      !GenericCall.others.contains(parameter)
    else { return false }
    if node.router.route("POST", template: parent) != nil { return true }
    return node.router.route("POST", template: template) != nil && !isList(template)
  }

  /// Whether reading a path gives a list.
  private func isList(_ template: String) -> Bool {
    if case .array? = try? node.router.route("GET", template: template)?.schema.returns {
      return true
    }
    return false
  }

  /// A path with its parameters. What is a guest's moves with it from node to node.
  private func place(_ template: String) -> String {
    var parts = template.split(separator: "/").map(String.init)
    if parts.count > 3, parts[0] == "nodes", parts[3] == "{vmid}" {
      parts.replaceSubrange(0..<3, with: ["guests"])
    }
    for (i, part) in parts.enumerated() where part.hasPrefix("{") {
      parts[i] = arguments.text(String(part.dropFirst().dropLast())) ?? ""
    }
    return "/" + parts.joined(separator: "/")
  }

  /// A parameter. A resource may be named by its vmid alone.
  func value(_ parameter: String) -> String {
    let text = arguments.text(parameter) ?? ""
    guard parameter == "sid", let vmid = Int(text) else { return text }
    return node.guests[vmid]?.description.kind == .lxc ? "ct:\(vmid)" : "vm:\(vmid)"
  }

  // MARK: answers

  func answer() throws(APIError) -> APIResult {
    try GenericRights(self).check()
    switch schema.method {
    case "GET": return APIResult(try read())
    case "POST": return try post()
    case "PUT": return try put()
    default: return try delete()
    }
  }

  private func read() throws(APIError) -> JSON {
    if let fixture = GenericFixtures.answer(schema.path, arguments, node) { return fixture }
    if schema.path.hasPrefix(RouteMapEntries.path) { return try RouteMapEntries(self).read() }
    if let (parent, parameter) = item {
      if parameter == "pos" { return try RuleList(self, place(parent)).row(value(parameter)) }
      if isCreatable(schema.path) {
        let document = try existing(parent, value(parameter))
        if case .array = schema.returns { return list() }
        return shown(document, parameter, value(parameter), in: place(parent), schema.returns)
      }
    }
    if case .array = schema.returns { return list() }
    let place = place(schema.path)
    var written = objects[place, ""] ?? .object([])
    if let (parent, parameter) = item {
      written = objects[self.place(parent), value(parameter)] ?? written
    }
    guard case .object = schema.returns else {
      if schema.returns == .any, !written.members.isEmpty { return written }
      return written["value"] ?? PlausibleValues(node).value(schema.returns, "")
    }
    if node.router.route("PUT", template: schema.path) != nil, item == nil {
      return completed(written, schema.returns, digestOf: place)
    }
    return completed(written, schema.returns, digestOf: nil)
  }

  /// A list: of documents, of rules, of what lies below, or of one plausible row.
  private func list() -> JSON {
    let place = place(schema.path)
    let row: ReturnType = if case .array(let row) = schema.returns { row } else { .any }
    if let parameter = node.router.childParameter(of: schema.path) {
      if parameter == "pos" { return RuleList(self, place).rows }
      let rights = GenericRights(self)
      let documents = objects.documents(in: place).filter {
        rights.sees($0.id, $0.document, parameter)
      }
      if !documents.isEmpty || isCreatable("\(schema.path)/{\(parameter)}") {
        return .array(
          documents.map { shown($0.document, parameter, $0.id, in: place, row) })
      }
    } else {
      let children = node.router.children(of: schema.path)
      let members = schema.returns.rowMembers
      if !children.isEmpty, members.isEmpty || members.count == 1 {
        let key = members.first?.name ?? indexKey
        return .array(children.map { .object([.init(key: key, value: .string($0))]) })
      }
    }
    if case .object(let members) = row, members.isEmpty { return [] }
    return .array([PlausibleValues(node).value(row, "")])
  }

  /// What an index calls the parts below, where the schema doesn't tell.
  private var indexKey: String {
    schema.path.hasSuffix("/{vmid}") || schema.path.hasSuffix("/{storage}") ? "subdir" : "name"
  }

  private func post() throws(APIError) -> APIResult {
    if schema.path == RouteMapEntries.path {
      try RouteMapEntries(self).create(written(into: .object([])))
      return result()
    }
    if schema.path.hasPrefix("/nodes/{node}/services/{service}/") {
      let state: JSON = schema.path.hasSuffix("/stop") ? "dead" : "running"
      objects.set(place("/nodes/{node}/services"), value("service"), ["state": state])
      return result()
    }
    if let (parent, parameter) = item, !isList(schema.path) {
      guard isCreatable(schema.path) else { return result() }
      return try create(parent, parameter, value(parameter))
    }
    if let parameter = node.router.childParameter(of: schema.path) {
      if let (parent, own) = item, isCreatable(schema.path) { _ = try existing(parent, value(own)) }
      if parameter == "pos" {
        RuleList(self, place(schema.path)).insert(written(into: .object([])), at: value("pos"))
        return result()
      }
      return try create(schema.path, parameter, identifier(parameter))
    }
    if let read = node.router.route("GET", template: schema.path),
      case .object = try read.schema.returns
    {
      objects.set(place(schema.path), "", written(into: .object([])))
    }
    return result()
  }

  private func create(_ parent: String, _ parameter: String, _ id: String) throws(APIError)
    -> APIResult
  {
    let place = place(parent)
    guard objects[place, id] == nil else {
      throw .died("\(GenericTexts.kind(parent)) '\(id)' already exists")
    }
    objects.set(place, id, derived(id, written(into: .object([]), without: parameter)))
    return result()
  }

  /// A new document, with what PVE makes of its id.
  private func derived(_ id: String, _ document: JSON) -> JSON {
    switch schema.path {
    case "/cluster/replication":
      let parts = id.split(separator: "-").compactMap { Int($0) }
      guard parts.count == 2 else { return document }
      return document.with("guest", .int(parts[0])).with("jobnum", .int(parts[1]))
    case "/cluster/ha/resources":
      return document.with("type", .string(String(id.prefix { $0 != ":" })))
    default: return document
    }
  }

  /// The id of what is made: a parameter, or a free one.
  private func identifier(_ parameter: String) -> String {
    if parameter == "subnet", let network = arguments.text("subnet") {
      let zone = objects["/cluster/sdn/vnets", value("vnet")]?["zone"] ?? "zone"
      if case .string(let zone) = zone {
        return "\(zone)-\(network.replacing("/", with: "-"))"
      }
    }
    if arguments.text(parameter) != nil { return value(parameter) }
    if parameter == "url_seq", let sequence = arguments.text("seq") { return sequence }
    if schema.path == "/cluster/acme/account" { return "default" }
    let place = place(schema.path)
    let isText = schema.path == "/cluster/backup"
    let taken = Set(objects.documents(in: place).map(\.id))
    func candidate(_ i: Int) -> String {
      isText ? "backup-\(lowerHex(Array(sha1(Array("\(node.name)\(i)".utf8)).prefix(6))))" : "\(i)"
    }
    return (0...taken.count).lazy.map(candidate).first { !taken.contains($0) } ?? ""
  }

  private func put() throws(APIError) -> APIResult {
    if let (parent, parameter) = item {
      let place = place(parent)
      if parameter == "pos" {
        let rules = RuleList(self, place)
        try rules.change(value(parameter), moveTo: arguments.integer("moveto")) {
          written(into: $0)
        }
        return result()
      }
      let document: JSON
      if isCreatable(schema.path) {
        document = try existing(parent, value(parameter))
      } else {
        document = objects[place, value(parameter)] ?? .object([])
      }
      try checkDigest(of: place)
      objects.set(place, value(parameter), written(into: document, without: parameter))
      return result()
    }
    let place = place(schema.path)
    if schema.returns == .null {
      try checkDigest(of: place)
      objects.set(place, "", written(into: objects[place, ""] ?? .object([])))
    }
    return result()
  }

  private func delete() throws(APIError) -> APIResult {
    if let (parent, parameter) = item {
      let place = place(parent)
      if parameter == "pos" {
        try RuleList(self, place).remove(value(parameter))
        return result()
      }
      if isCreatable(schema.path) { _ = try existing(parent, value(parameter)) }
      try checkDigest(of: place)
      objects.remove(place, value(parameter))
      return result()
    }
    objects.remove(place(schema.path), "")
    return result()
  }

  /// What writing answers: nothing, a task's UPID, or plausible values.
  private func result() -> APIResult {
    let values = PlausibleValues(node)
    switch schema.returns {
    case .string where !GenericTexts.answersText.contains(schema.path):
      return APIResult(.string(GenericTask(self).run()))
    case .object(let members):
      let given = members.compactMap { member in
        arguments.values[member.name].map {
          JSON.Member(key: member.name, value: json($0, member.type, nil))
        }
      }
      return APIResult(completed(.object(given), schema.returns, digestOf: nil))
    default: return APIResult(values.value(schema.returns, ""))
    }
  }

  // MARK: documents

  private func existing(_ parent: String, _ id: String) throws(APIError) -> JSON {
    guard let document = objects[place(parent), id] else {
      throw GenericTexts.missing(parent, id)
    }
    return document
  }

  /// A document with the call's parameters in it, and without what `delete` names.
  private func written(into document: JSON, without own: String? = nil) -> JSON {
    var document = document
    for name in arguments.list("delete") { document = document.with(name, nil) }
    for pair in arguments.values.pairs {
      let isInPath = schema.path.contains("{\(pair.name)}")
      guard !isInPath, pair.name != own, !GenericCall.directions.contains(pair.name),
        !GenericCall.secrets.contains(pair.name)
      else { continue }
      let kind = schema.parameters[pair.name]?.kind
      document = document.with(pair.name, json(pair.value, nil, kind))
    }
    return document
  }

  /// A parameter as PVE gives it back.
  private func json(_ value: ParameterValue, _ type: ReturnType?, _ kind: Schema.Kind?) -> JSON {
    switch value {
    case .null: return .null
    case .object(let object): return object
    case .list(let items): return .array(items.map { json($0, nil, .string) })
    case .text(let text):
      switch (type, kind) {
      case (.integer?, _), (.boolean?, _), (nil, .integer?), (nil, .boolean?):
        return Int(text).map(JSON.int) ?? .string(text)
      case (.number?, _), (nil, .number?):
        return Int(text).map(JSON.int) ?? Double(text).map(JSON.double) ?? .string(text)
      case (.array?, _): return .array(splitList(text).map(JSON.string))
      default: return .string(text)
      }
    }
  }

  /// A document as it is shown: with its id, with what must be there, in the schema's types.
  private func shown(
    _ document: JSON, _ parameter: String, _ id: String, in place: String, _ type: ReturnType
  ) -> JSON {
    let key = GenericTexts.idMember(parameter, in: place)
    let identified = document.with(
      key, type.member(key)?.type == .integer ? Int(id).map(JSON.int) : .string(id))
    return completed(identified, type, digestOf: place)
  }

  /// A document with plausible values for the members that the type promises.
  func completed(_ document: JSON, _ type: ReturnType, digestOf place: String?) -> JSON {
    guard case .object(let members) = type else { return document }
    var document = document
    for member in members {
      if member.name == "digest", let place {
        document = document.with("digest", .string(digest(of: place)))
      } else if let value = document[member.name] {
        document = document.with(member.name, PlausibleValues.fit(value, member.type))
      } else if !member.isOptional {
        document = document.with(
          member.name, PlausibleValues(node).value(member.type, member.name))
      }
    }
    return document
  }

  /// The checksum of what a path holds, as PVE makes one of the file.
  func digest(of place: String) -> String {
    var text = objects[place, ""]?.text ?? ""
    for (id, document) in objects.documents(in: place) where !id.isEmpty {
      text += "\(id) \(document.text)\n"
    }
    return lowerHex(sha1(Array(text.utf8)))
  }

  func checkDigest(of place: String) throws(APIError) {
    guard let given = arguments.text("digest"), given != digest(of: place) else { return }
    throw .died("detected modified configuration - file changed by other user? Try again.")
  }
}
