/// What PVE's schema says about one value: a parameter, an item of a list, or a key of a property string.
final class Schema: Sendable {
  enum Kind: Sendable {
    case string, integer, number, boolean, array
    /// Whatever it is; keys that only stand for another have no type of their own.
    case any

    /// As error texts name it.
    var name: String {
      switch self {
      case .string: "string"
      case .integer: "integer"
      case .number: "number"
      case .boolean: "boolean"
      case .array: "array"
      case .any: "any"
      }
    }
  }

  /// A limit, as the schema writes it and as a number.
  struct Bound: Sendable {
    var text: String
    var value: Double

    init(_ text: String) {
      self.text = text
      value = Double(text) ?? 0
    }
  }

  /// What is known about the value.
  struct Facts: Sendable {
    var kind = Kind.any
    var isOptional = false
    var minimum: Bound?
    var maximum: Bound?
    var minimumLength: Int?
    var maximumLength: Int?
    var pattern: Pattern?
    var choices: [String] = []
    var format: Format?
    /// What the items of an array are.
    var items: Schema?
    /// What PVE assumes where the value is absent.
    var defaultValue: String?
    /// Another parameter that must be there too.
    var needs: String?

    // In property strings.

    /// The key that this one is another name of.
    var alias: String?
    /// The key whose value is this key's name: in `virtio=AA:BB…`, the model.
    var keyAlias: String?
    /// Whether a value without a key is this key's.
    var isDefaultKey = false

    // Where the schema depends on what kind of object is written.

    /// The parameter that says the kind.
    var typeProperty: String?
    /// The kinds that this variant is for.
    var instanceTypes: [String] = []
    /// One schema a kind.
    var variants: [Schema] = []
  }

  let facts: Facts

  init(_ facts: Facts) { self.facts = facts }

  var kind: Kind { facts.kind }
  var isOptional: Bool { facts.isOptional }
  var format: Format? { facts.format }
  var items: Schema? { facts.items }
  var typeProperty: String? { facts.typeProperty }
  var variants: [Schema] { facts.variants }
  /// Whether nothing is wrong where the value is absent.
  var mayBeAbsent: Bool { facts.isOptional || facts.alias != nil }
}

/// The parameters of an operation, or the keys of a property string.
struct PropertySchemas: Sendable {
  struct Property: Sendable {
    var name: String
    var schema: Schema
    /// `net` of `net[n]`, and how many of them there are.
    var family: (base: String, count: Int)?

    init(_ name: String, _ schema: Schema) {
      self.name = name
      self.schema = schema
      guard name.hasSuffix("[n]") else { return }
      let base = String(name.dropLast(3))
      family = (base, PropertySchemas.familySizes[base] ?? 1)
    }
  }

  /// How many members a family of indexed parameters has; the schema doesn't say.
  private static let familySizes = [
    "net": 32, "scsi": 31, "virtio": 16, "sata": 6, "ide": 4, "unused": 256, "serial": 4,
    "parallel": 3, "usb": 14, "hostpci": 16, "numa": 8, "virtiofs": 10, "mp": 256, "dev": 256,
    "link": 8, "acmedomain": 6, "ipconfig": 32,
  ]

  /// In the table's order.
  let all: [Property]
  /// Those that must be there.
  let required: [Property]
  /// The key of a property string whose name may be left out.
  let defaultKey: String?
  private let places: [String: Int]

  init(_ all: [Property]) {
    self.all = all
    required = all.filter { !$0.schema.mayBeAbsent }
    defaultKey = all.first { $0.schema.facts.isDefaultKey }?.name
    var places: [String: Int] = [:]
    for (i, property) in all.enumerated() { places[property.family?.base ?? property.name] = i }
    // `numa` is a parameter beside the family `numa[n]`.
    for (i, property) in all.enumerated() where property.family == nil {
      places[property.name] = i
    }
    for (i, property) in all.enumerated() {
      guard let family = property.family else { continue }
      places[family.base + "[n]"] = i
    }
    self.places = places
  }

  /// The schema of a name: `net0` is one of `net[n]` if there are that many.
  subscript(name: String) -> Schema? {
    if let i = places[name], all[i].family == nil { return all[i].schema }
    guard let last = name.utf8.last, (48...57).contains(last) else { return nil }
    let base = name.prefix { !("0"..."9").contains($0) }
    let digits = name.dropFirst(base.count)
    guard let index = Int(digits), digits == String(index)[...], let i = places[base + "[n]"],
      let family = all[i].family, index < family.count
    else { return nil }
    return all[i].schema
  }
}
