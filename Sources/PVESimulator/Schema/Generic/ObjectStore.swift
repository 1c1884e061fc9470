/// Documents of everything that has no life of its own in the simulator: what was written is kept and read back.
///
/// Documents lie in collections under their ids. A collection's name is the path of the operation that lists it, with
/// its parameters filled in; single documents, such as a node's DNS settings, lie in their own path under no id.
final class ObjectStore {
  private struct Entry {
    var document: JSON
    var isBuiltIn = false
  }

  /// Told of every change: the key, and the document or nil. A built-in document that was removed is `null`.
  var changed: (String, JSON?) -> Void = { _, _ in }

  private var collections: [String: [String: Entry]] = [:]

  /// A document that is there from the beginning and isn't told of until it changes.
  func addBuiltIn(_ collection: String, _ id: String, _ document: JSON) {
    collections[collection, default: [:]][id] = Entry(document: document, isBuiltIn: true)
  }

  /// The documents of a collection, by id.
  func documents(in collection: String) -> [(id: String, document: JSON)] {
    (collections[collection] ?? [:]).filter { $0.value.document != .null }
      .sorted { ObjectStore.precedes($0.key, $1.key) }
      .map { ($0.key, $0.value.document) }
  }

  /// Names of the collections below a path.
  func collections(below path: String) -> [String] {
    collections.keys.filter { $0.hasPrefix(path + "/") }.sorted()
  }

  /// Numbers by size, everything else as text.
  private static func precedes(_ a: String, _ b: String) -> Bool {
    if let x = Int(a), let y = Int(b) { return x < y }
    return a < b
  }

  subscript(collection: String, id: String) -> JSON? {
    let document = collections[collection]?[id]?.document
    return document == .null ? nil : document
  }

  /// Puts a document in its place.
  func set(_ collection: String, _ id: String, _ document: JSON) {
    collections[collection, default: [:]][id, default: Entry(document: .null)].document = document
    changed(ObjectStore.key(collection, id), document)
  }

  /// Removes a document, and everything that lies below it.
  func remove(_ collection: String, _ id: String) {
    if let entry = collections[collection]?[id] {
      collections[collection]?[id] =
        entry.isBuiltIn ? Entry(document: .null, isBuiltIn: true) : nil
      changed(ObjectStore.key(collection, id), entry.isBuiltIn ? .null : nil)
    }
    if !id.isEmpty { removeAll(below: "\(collection)/\(id)") }
  }

  /// Removes all documents of a path and of what is below it.
  func removeAll(below path: String) {
    for name in collections.keys where name == path || name.hasPrefix(path + "/") {
      for (id, entry) in collections[name] ?? [:] where entry.document != .null {
        changed(ObjectStore.key(name, id), entry.isBuiltIn ? .null : nil)
      }
      collections[name] = nil
    }
  }

  /// Puts back what ``changed`` was told of.
  func restore(key: String, _ document: JSON) {
    guard let space = key.firstIndex(of: " ") else { return }
    let (collection, id) = (String(key[..<space]), String(key[key.index(after: space)...]))
    let isBuiltIn = collections[collection]?[id]?.isBuiltIn ?? false
    collections[collection, default: [:]][id] = Entry(document: document, isBuiltIn: isBuiltIn)
  }

  /// Forgets everything, built-in documents too.
  func removeAll() { collections = [:] }

  private static func key(_ collection: String, _ id: String) -> String { "\(collection) \(id)" }
}

extension JSON {
  /// The members of an object.
  var members: [Member] {
    if case .object(let members) = self { members } else { [] }
  }

  /// With a member set to a value, or removed where it is nil.
  func with(_ key: String, _ value: JSON?) -> JSON {
    var members = members
    if let i = members.firstIndex(where: { $0.key == key }) {
      if let value {
        members[i].value = value
      } else {
        members.remove(at: i)
      }
    } else if let value {
      members.append(Member(key: key, value: value))
    }
    return .object(members)
  }
}
