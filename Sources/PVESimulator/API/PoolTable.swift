/// Pools: names for groups of guests and storages, nested up to three levels by slashes in the name.
struct PoolTable {
  struct Pool: Sendable {
    var comment: String?
    var guests: Set<Int> = []
    var storages: Set<String> = []
  }

  private(set) var pools: [String: Pool] = [:]
  private var poolOfGuest: [Int: String] = [:]
  /// Pools whose change is not kept yet.
  private var changed: Set<String> = []
  private let save: (String, Pool?) -> Void

  init(save: @escaping (String, Pool?) -> Void) { self.save = save }

  var names: [String] { pools.keys.sorted() }
  subscript(name: String) -> Pool? { pools[name] }

  /// The pool that a guest is in.
  func pool(of vmid: Int) -> String? { poolOfGuest[vmid] }

  /// The pools that a storage is in.
  func pools(ofStorage id: String) -> [String] {
    pools.filter { $0.value.storages.contains(id) }.keys.sorted()
  }

  /// Pools inside a pool.
  func children(of name: String) -> [String] {
    names.filter { $0.hasPrefix(name + "/") && !$0.dropFirst(name.count + 1).contains("/") }
  }

  mutating func create(_ name: String, comment: String?) {
    pools[name] = Pool(comment: comment)
    changed.insert(name)
  }

  mutating func delete(_ name: String) {
    for vmid in pools[name]?.guests ?? [] { poolOfGuest[vmid] = nil }
    pools[name] = nil
    changed.insert(name)
  }

  mutating func comment(_ name: String, _ text: String) {
    pools[name]?.comment = text
    changed.insert(name)
  }

  /// Puts a guest into a pool, out of the one where it was; nil takes it out of any.
  mutating func move(_ vmid: Int, to name: String?) {
    if let old = poolOfGuest.removeValue(forKey: vmid) {
      pools[old]?.guests.remove(vmid)
      changed.insert(old)
    }
    guard let name, pools[name] != nil else { return }
    pools[name]?.guests.insert(vmid)
    poolOfGuest[vmid] = name
    changed.insert(name)
  }

  mutating func add(storage id: String, to name: String) {
    pools[name]?.storages.insert(id)
    changed.insert(name)
  }

  mutating func remove(storage id: String, from name: String) {
    pools[name]?.storages.remove(id)
    changed.insert(name)
  }

  /// PVE's `pve-poolid`; slashes since PVE 8.1.
  static func isPoolID(_ text: String) -> Bool {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    return (1...3).contains(parts.count)
      && parts.allSatisfy { part in
        !part.isEmpty
          && part.utf8.allSatisfy {
            (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || $0 == 45
              || $0 == 46 || $0 == 95
          }
      }
  }

  // MARK: kept state

  /// Keeps what has changed.
  mutating func flush() {
    for name in changed { save(name, pools[name]) }
    changed = []
  }

  static func document(_ name: String, _ pool: Pool) -> JSON {
    [
      "name": .string(name), "comment": pool.comment.map { .string($0) } ?? .null,
      "guests": .array(pool.guests.sorted().map { .int($0) }),
      "storages": .array(pool.storages.sorted().map { .string($0) }),
    ]
  }

  /// Takes over the pools that an earlier life kept.
  mutating func restore(_ documents: [JSON]) {
    pools = [:]
    poolOfGuest = [:]
    for document in documents {
      guard case .string(let name)? = document["name"] else { continue }
      var pool = Pool()
      if case .string(let comment)? = document["comment"] { pool.comment = comment }
      if case .array(let ids)? = document["guests"] {
        for case .int(let vmid) in ids {
          pool.guests.insert(vmid)
          poolOfGuest[vmid] = name
        }
      }
      if case .array(let ids)? = document["storages"] {
        for case .string(let id) in ids { pool.storages.insert(id) }
      }
      pools[name] = pool
    }
  }

  /// Everything, for a state file's first write.
  mutating func saveAll() {
    changed.formUnion(names)
    flush()
  }
}
