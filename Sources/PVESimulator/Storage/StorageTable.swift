/// The cluster's storages and what is on them.
///
/// A storage that isn't shared is another one on every node, under the same name: its volumes are kept by node.
final class StorageTable {
  /// A storage on a node; on all of them where it is shared.
  struct Place: Hashable {
    var storage: String
    /// Empty where it is shared.
    var node: String
  }

  private struct Shelf {
    var volumes: [String: Volume] = [:]
    var used = 0
  }

  private(set) var definitions: [String: StorageDefinition] = [:]
  private var shelves: [Place: Shelf] = [:]
  /// Gives the disks of guests that nobody has looked at yet, so that a big cluster starts fast.
  private var seed: (() -> [(Volume, node: String)])?
  private let era: Era
  private let save: (StateKind, String, JSON?) -> Void

  init(era: Era, save: @escaping (StateKind, String, JSON?) -> Void) {
    self.era = era
    self.save = save
    clear()
  }

  /// Back to what a fresh cluster has. Nothing of it is kept.
  func clear() {
    seed = nil
    shelves = [:]
    definitions = [:]
    for definition in StorageDefinition.usual(era) { definitions[definition.id] = definition }
  }

  /// Leaves the disks of the configuration's guests for later.
  func expect(_ seed: @escaping () -> [(Volume, node: String)]) { self.seed = seed }

  // MARK: definitions

  /// In alphabetical order.
  var sorted: [StorageDefinition] { definitions.values.sorted { $0.id < $1.id } }

  /// - Throws: PVE's words for a storage that isn't there.
  func definition(_ id: String) throws(APIError) -> StorageDefinition {
    guard let found = definitions[id] else { throw .died("storage '\(id)' does not exist") }
    return found
  }

  /// A storage that can be used on a node.
  func enabled(_ id: String, on node: String) throws(APIError) -> StorageDefinition {
    let found = try definition(id)
    guard !found.isDisabled else { throw .died("storage '\(id)' is disabled") }
    guard found.isAvailable(on: node) else {
      throw .died("storage '\(id)' is not available on node '\(node)'")
    }
    return found
  }

  /// Adds a definition, or replaces the one of its id.
  func define(_ definition: StorageDefinition) {
    definitions[definition.id] = definition
    save(.storage, definition.id, definition.document)
  }

  /// Forgets a definition. The volumes stay where they are, as PVE leaves them.
  func undefine(_ id: String) {
    definitions[id] = nil
    save(.storage, id, nil)
  }

  /// SHA-1 of the whole, for detecting changes by others.
  var digest: String {
    let text = sorted.map { "\($0.kind.name): \($0.id)\n\($0.options.text)" }.joined(
      separator: "\n")
    return lowerHex(sha1(Array(text.utf8)))
  }

  /// PVE's `pve-storage-id`.
  static func isStorageID(_ text: some StringProtocol) -> Bool {
    let bytes = Array(text.utf8)
    func isLetter(_ c: UInt8) -> Bool { (65...90).contains(c) || (97...122).contains(c) }
    func isDigit(_ c: UInt8) -> Bool { (48...57).contains(c) }
    guard bytes.count >= 2, let first = bytes.first, let last = bytes.last else { return false }
    return isLetter(first) && (isLetter(last) || isDigit(last))
      && bytes.allSatisfy { isLetter($0) || isDigit($0) || $0 == 45 || $0 == 46 || $0 == 95 }
  }

  // MARK: volumes

  private func place(_ storage: String, _ node: String) -> Place {
    Place(storage: storage, node: definitions[storage]?.isShared == true ? "" : node)
  }

  private func plant() {
    guard let seed else { return }
    self.seed = nil
    for (volume, node) in seed() { insert(volume, node) }
  }

  private func insert(_ volume: Volume, _ node: String) {
    let place = place(volume.storage, node)
    let old = shelves[place, default: Shelf()].volumes.updateValue(volume, forKey: volume.name)
    shelves[place, default: Shelf()].used += volume.size - (old?.size ?? 0)
  }

  /// A volume as a node sees it.
  func volume(_ id: String, on node: String) -> Volume? {
    guard let parts = VolumeID(id) else { return nil }
    plant()
    return shelves[place(parts.storage, node)]?.volumes[parts.name]
  }

  /// Everything on a storage, in alphabetical order.
  func volumes(on storage: String, of node: String) -> [Volume] {
    plant()
    return (shelves[place(storage, node)]?.volumes.values).map {
      $0.sorted { $0.name < $1.name }
    } ?? []
  }

  /// Puts a volume there, in the place of one of the same name.
  func put(_ volume: Volume, on node: String) {
    plant()
    insert(volume, node)
    let place = place(volume.storage, node)
    save(.volume, "\(place.node)/\(volume.id)", volume.document)
  }

  /// Removes a volume; false where there is none.
  @discardableResult
  func remove(_ id: String, on node: String) -> Bool {
    plant()
    guard let parts = VolumeID(id) else { return false }
    let place = place(parts.storage, node)
    guard let old = shelves[place]?.volumes.removeValue(forKey: parts.name) else { return false }
    shelves[place]?.used -= old.size
    save(.volume, "\(place.node)/\(id)", nil)
    return true
  }

  /// Bytes of a storage on a node.
  func usage(of definition: StorageDefinition, on node: String) -> (
    total: Int, used: Int, avail: Int
  ) {
    plant()
    let allocated = shelves[place(definition.id, node)]?.used ?? 0
    let (start, base, reserved) = definition.capacity
    // A storage grows where a big cluster's guests would not fit.
    var total = start
    while total - base - reserved < allocated { total *= 2 }
    return (total, base + allocated, total - base - reserved - allocated)
  }

  // MARK: allocation

  /// A name that is free for a guest's next disk.
  func nextName(
    _ definition: StorageDefinition, vmid: Int, format: String, on node: String, stem: String = "vm"
  ) -> String {
    let kind = format == "subvol" && stem == "vm" ? "subvol" : stem
    for number in 0... {
      let name = StorageTable.imageName(
        definition, "\(kind)-\(vmid)-disk-\(number)", vmid: vmid, format: format)
      if volume("\(definition.id):\(name)", on: node) == nil { return name }
    }
    return ""
  }

  /// How a storage calls an image: files are in the guest's folder and show their format.
  static func imageName(_ definition: StorageDefinition, _ stem: String, vmid: Int, format: String)
    -> String
  {
    definition.kind.isFileBased ? "\(vmid)/\(stem).\(format)" : stem
  }

  // MARK: kept state

  /// Takes over what an earlier life kept. Definitions and volumes replace the ones that a fresh cluster has.
  func restore(storages: [JSON], volumes: [(id: String, document: JSON)]) {
    seed = nil
    shelves = [:]
    definitions = [:]
    for definition in storages.compactMap(StorageDefinition.init(document:)) {
      definitions[definition.id] = definition
    }
    for (id, document) in volumes {
      guard let volume = Volume(document: document) else { continue }
      insert(volume, String(id.prefix { $0 != "/" }))
    }
  }

  /// Everything, for a state file's first write.
  func saveAll() {
    plant()
    for definition in definitions.values { save(.storage, definition.id, definition.document) }
    for (place, shelf) in shelves {
      for volume in shelf.volumes.values {
        save(.volume, "\(place.node)/\(volume.id)", volume.document)
      }
    }
  }
}
