/// Checks values against the schema as PVE does, with PVE's texts, and collects what is wrong.
struct Validation {
  /// What is wrong, by the name of the value.
  private(set) var complaints: [APIError.Field] = []

  static let missing = "property is missing and it is not optional"
  static let unknown =
    "property is not defined in schema and the schema does not allow additional properties"

  /// - Throws: the 400 that names every parameter with which something is wrong.
  static func check(_ values: Parameters, against schema: OperationSchema) throws(APIError) {
    if values.pairs.isEmpty && schema.parameters.required.isEmpty { return }
    var validation = Validation()
    validation.check(
      values.pairs, schema.parameters, path: "", allowsUnknown: schema.allowsUnknownParameters)
    if !validation.complaints.isEmpty { throw .invalid(validation.complaints) }
  }

  /// Values as PVE makes them fit before it looks at them. Forms can't say that one value is a list of one, and lists
  /// in texts may come as arrays; PVE 7 has no arrays and joins what repeats with NUL bytes.
  static func normalized(_ values: Parameters, _ schema: OperationSchema, _ era: Era) -> Parameters
  {
    var out = values
    for pair in values.pairs {
      guard let property = schema.parameters[pair.name] else { continue }
      switch pair.value {
      case .text(let text) where property.kind == .array && !text.isEmpty && text != "0":
        out.set(pair.name, .list([pair.value]))
      case .list(let items) where !era.formArrays:
        out.set(pair.name, .text(items.compactMap(\.text).joined(separator: "\0")))
      case .list(let items):
        guard property.kind == .string, case .text(let format)? = property.format,
          format.repetition == .list
        else { continue }
        out.set(pair.name, .text(items.compactMap(\.text).joined(separator: ",")))
      case .text, .object, .null: continue
      }
    }
    return out
  }

  /// A second text for the same value is put behind the first, between them the two characters `\n`.
  private mutating func add(_ path: String, _ text: String) {
    if let i = complaints.firstIndex(where: { $0.name == path }) {
      complaints[i].text += "\\n" + text
    } else {
      complaints.append(.init(name: path, text: text))
    }
  }

  /// Checks an object: an operation's parameters, or the keys of a property string.
  mutating func check(
    _ values: [(name: String, value: ParameterValue)], _ schemas: PropertySchemas, path: String,
    allowsUnknown: Bool
  ) {
    let prefix = path.isEmpty ? "" : path + "."
    func value(_ name: String) -> ParameterValue? {
      guard let value = values.first(where: { $0.name == name })?.value, value != .null else {
        return nil
      }
      return value
    }
    for property in schemas.required where value(property.name) == nil {
      let instance = property.schema.typeProperty.flatMap { value($0)?.text }
      check(nil, property.schema, path: prefix + property.name, instance: instance)
    }
    for pair in values {
      guard let schema = schemas[pair.name] else {
        if !allowsUnknown { add(prefix + pair.name, Validation.unknown) }
        continue
      }
      let instance = schema.typeProperty.flatMap { value($0)?.text }
      if let given = value(pair.name) {
        check(given, schema, path: prefix + pair.name, instance: instance)
      }
      if let needs = schema.facts.needs, value(needs) == nil {
        add(
          prefix + needs, "missing property - '\(prefix + pair.name)' requires this property")
      }
      if !schema.variants.isEmpty, !allowsUnknown,
        !schema.variants.contains(where: { $0.isFor(instance) })
      {
        add(prefix + pair.name, Validation.unknown)
      }
    }
  }

  /// Checks one value, nil being an absent one.
  private mutating func check(
    _ value: ParameterValue?, _ schema: Schema, path: String, instance: String?
  ) {
    var mayBeAbsent = schema.mayBeAbsent
    if schema.typeProperty != nil {
      // Without a kind there is nothing to ask for.
      mayBeAbsent = true
      for variant in schema.variants where instance != nil && variant.isFor(instance) {
        mayBeAbsent = variant.isOptional
        check(value, variant, path: path, instance: nil)
      }
      if value == nil { return }
    }
    guard let value else {
      if !mayBeAbsent { add(path, Validation.missing) }
      return
    }
    switch value {
    case .null: return
    case .object:
      if schema.kind != .any { add(path, wrongType(schema, got: "HASH")) }
    case .list(let items):
      guard schema.kind == .array || schema.kind == .any else {
        add(path, wrongType(schema, got: "ARRAY"))
        return
      }
      guard let inner = schema.items else { return }
      for (i, item) in items.enumerated() {
        check(item == .null ? nil : item, inner, path: "\(path)[\(i)]", instance: nil)
      }
    case .text(let text):
      if let complaint = Validation.complaint(about: text, schema, path: path) {
        add(path, complaint)
      }
    }
  }

  private func wrongType(_ schema: Schema, got: String) -> String {
    let text = "type check ('\(schema.kind.name)') failed"
    return schema.kind == .array ? text : text + " - got \(got)"
  }

  /// PVE's text for what is wrong with a text: the first thing that is.
  static func complaint(about text: String, _ schema: Schema, path: String) -> String? {
    func wrongType() -> String { "type check ('\(schema.kind.name)') failed - got '\(text)'" }
    switch schema.kind {
    case .array: return "type check ('array') failed"
    case .boolean: if text != "0", text != "1" { return wrongType() }
    case .integer: if !isInteger(text) { return wrongType() }
    case .number: if !isNumber(text) { return wrongType() }
    case .string, .any: break
    }
    if let complaint = schema.format?.complaint(about: text, path: path) {
      return "invalid format - " + complaint
    }
    if let pattern = schema.facts.pattern, !pattern.matches(text) {
      return "value does not match the regex pattern"
    }
    if let most = schema.facts.maximumLength, text.unicodeScalars.count > most {
      return "value may only be \(most) characters long"
    }
    if let least = schema.facts.minimumLength, text.unicodeScalars.count < least {
      return "value must be at least \(least) characters long"
    }
    if schema.facts.maximum != nil || schema.facts.minimum != nil, isNumber(text) {
      let number = Double(text) ?? (text.hasPrefix("-") ? -.infinity : .infinity)
      if let most = schema.facts.maximum, number > most.value {
        return "value must have a maximum value of \(most.text)"
      }
      if let least = schema.facts.minimum, number < least.value {
        return "value must have a minimum value of \(least.text)"
      }
    }
    if !schema.facts.choices.isEmpty, !schema.facts.choices.contains(text) {
      let choices = schema.facts.choices.joined(separator: ", ")
      return "value '\(text)' does not have a value in the enumeration '\(choices)'"
    }
    return nil
  }

  /// A sign and digits.
  static func isInteger(_ text: String) -> Bool {
    var bytes = text.utf8[...]
    if let sign = bytes.first, sign == 43 || sign == 45 { bytes.removeFirst() }
    return !bytes.isEmpty && bytes.allSatisfy { (48...57).contains($0) }
  }

  /// A sign, digits with a point somewhere, an exponent.
  static func isNumber(_ text: String) -> Bool {
    var bytes = text.utf8[...]
    if let sign = bytes.first, sign == 43 || sign == 45 { bytes.removeFirst() }
    func digits() -> Int {
      let run = bytes.prefix { (48...57).contains($0) }
      bytes = bytes[run.endIndex...]
      return run.count
    }
    var count = digits()
    if bytes.first == 46 {
      bytes.removeFirst()
      count += digits()
    }
    guard count > 0 else { return false }
    if let e = bytes.first, e == 101 || e == 69 {
      bytes.removeFirst()
      if let sign = bytes.first, sign == 43 || sign == 45 { bytes.removeFirst() }
      guard digits() > 0 else { return false }
    }
    return bytes.isEmpty
  }
}

extension Schema {
  /// Whether a variant is for a kind of object.
  fileprivate func isFor(_ instance: String?) -> Bool {
    guard let instance else { return facts.instanceTypes.isEmpty }
    return facts.instanceTypes.isEmpty || facts.instanceTypes.contains(instance)
  }
}

extension Format {
  /// What is wrong with a text, or nil. Ends with a line break, as the texts of Perl's exceptions do.
  fileprivate func complaint(about text: String, path: String) -> String? {
    switch self {
    case .text(let format): return format.complaint(about: text).map { $0 + "\n" }
    case .properties(let keys):
      do throws(PropertyString.Malformed) {
        let pairs = try PropertyString.parse(text, keys)
        var inner = Validation()
        inner.check(
          pairs.map { ($0.key, .text($0.value)) }, keys, path: path, allowsUnknown: false)
        guard !inner.complaints.isEmpty else { return nil }
        return "format error\n" + inner.complaints.map { "\($0.name): \($0.text)\n" }.joined()
      } catch {
        return error.description + "\n"
      }
    }
  }
}
