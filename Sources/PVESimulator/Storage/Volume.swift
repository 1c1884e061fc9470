/// A volume on a storage: an image, an ISO, a template, a backup. Its bytes don't exist; its size does.
struct Volume: Sendable {
  let storage: String
  /// Without the storage, e.g. `vm-100-disk-0` or `iso/debian.iso`.
  let name: String
  let content: String
  var format: String
  var size: Int
  var vmid: Int?
  var created: Int
  /// The volume that it is a linked clone of.
  var parent: String?
  var notes: String?
  var isProtected = false
  /// The configuration in a backup.
  var archive: Archive?

  /// What a backup holds besides the disks.
  struct Archive: Sendable {
    var kind: SimulatedGuest.Kind
    var config: OptionList
  }

  var id: String { "\(storage):\(name)" }

  /// What follows the last slash.
  var fileName: String { String(name.split(separator: "/").last ?? "") }

  // MARK: kept state

  var document: JSON {
    var members: [JSON.Member] = [
      .init(key: "storage", value: .string(storage)), .init(key: "name", value: .string(name)),
      .init(key: "content", value: .string(content)),
      .init(key: "format", value: .string(format)), .init(key: "size", value: .int(size)),
      .init(key: "created", value: .int(created)),
    ]
    if let vmid { members.append(.init(key: "vmid", value: .int(vmid))) }
    if let parent { members.append(.init(key: "parent", value: .string(parent))) }
    if let notes { members.append(.init(key: "notes", value: .string(notes))) }
    if isProtected { members.append(.init(key: "protected", value: 1)) }
    if let archive {
      members.append(.init(key: "guest", value: .string(archive.kind.rawValue)))
      members.append(.init(key: "config", value: archive.config.document))
    }
    return .object(members)
  }
}

extension Volume {
  /// Nil for a document that is none.
  init?(document: JSON) {
    guard case .string(let storage)? = document["storage"],
      case .string(let name)? = document["name"], case .string(let content)? = document["content"],
      case .string(let format)? = document["format"], case .int(let size)? = document["size"],
      case .int(let created)? = document["created"]
    else { return nil }
    self.init(
      storage: storage, name: name, content: content, format: format, size: size, created: created)
    if case .int(let vmid)? = document["vmid"] { self.vmid = vmid }
    if case .string(let parent)? = document["parent"] { self.parent = parent }
    if case .string(let notes)? = document["notes"] { self.notes = notes }
    isProtected = document["protected"] == 1
    if case .string(let guest)? = document["guest"],
      let kind = SimulatedGuest.Kind(rawValue: guest)
    {
      archive = Archive(kind: kind, config: OptionList(document: document["config"]))
    }
  }
}

/// A volume's name, taken apart as PVE's storage plugins do it.
struct VolumeName: Sendable {
  let content: String
  let vmid: Int?
  let format: String

  /// - Throws: PVE's words for a name that is none on a storage of this type.
  init(_ name: String, on kind: StorageKind) throws(APIError) {
    guard let found = VolumeName(reading: name, on: kind) else {
      throw .died(kind.unreadable(name))
    }
    self = found
  }

  private init(content: String, vmid: Int?, format: String) {
    self.content = content
    self.vmid = vmid
    self.format = format
  }

  private init?(reading name: String, on kind: StorageKind) {
    guard kind.isFileBased else {
      if kind.name == "pbs", let found = VolumeName(backup: name) {
        self = found
        return
      }
      // A linked clone names its base before a slash.
      guard let last = name.split(separator: "/").last, let owner = VolumeName.owner(of: last)
      else {
        return nil
      }
      let isFolder = last.hasPrefix("subvol-") || last.hasPrefix("basevol-")
      self.init(
        content: isFolder ? "rootdir" : "images", vmid: owner, format: isFolder ? "subvol" : "raw")
      return
    }
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count >= 2, parts.allSatisfy({ !$0.isEmpty && $0 != ".." }),
      let first = parts.first,
      let last = parts.last
    else { return nil }
    let ending = last.split(separator: ".").last.map { $0.lowercased() } ?? ""
    if let vmid = Int(first) {
      guard parts.count == 2 || parts.count == 4 else { return nil }
      let isFolder = ending == "subvol"
      self.init(
        content: isFolder ? "rootdir" : "images", vmid: parts.count == 4 ? Int(parts[2]) : vmid,
        format: ["raw", "qcow2", "vmdk", "subvol"].contains(ending) ? ending : "raw")
      return
    }
    guard parts.count == 2 else { return nil }
    switch first {
    case "iso":
      guard ["iso", "img"].contains(ending) else { return nil }
      self.init(content: "iso", vmid: nil, format: "iso")
    case "vztmpl":
      guard let format = VolumeName.templateFormat(String(last)) else { return nil }
      self.init(content: "vztmpl", vmid: nil, format: format)
    case "snippets": self.init(content: "snippets", vmid: nil, format: "snippet")
    case "import": self.init(content: "import", vmid: nil, format: ending)
    case "backup":
      guard let found = VolumeName(backup: String(last)) else { return nil }
      self = found
    default: return nil
    }
  }

  /// `vzdump-qemu-100-2026_11_21-18_24_08.vma.zst`, or what a backup server calls `backup/vm/100/2026-…`.
  private init?(backup name: String) {
    let parts = name.split(separator: "/")
    if parts.count == 4, parts[0] == "backup", let vmid = Int(parts[2]) {
      self.init(content: "backup", vmid: vmid, format: parts[1] == "ct" ? "pbs-ct" : "pbs-vm")
      return
    }
    let formats = [
      ".vma", ".vma.zst", ".vma.gz", ".vma.lzo", ".tar", ".tgz", ".tar.gz", ".tar.zst", ".tar.lzo",
    ]
    guard let ending = formats.filter({ name.hasSuffix($0) }).max(by: { $0.count < $1.count })
    else {
      return nil
    }
    let words = name.split(separator: "-")
    let vmid = words.count >= 3 && words[0] == "vzdump" ? Int(words[2]) : nil
    self.init(content: "backup", vmid: vmid, format: String(ending.dropFirst()))
  }

  /// `tgz`, `txz`, `tzst` … of a container template's file name; nil where it is none.
  static func templateFormat(_ name: String) -> String? {
    let lower = name.lowercased()
    let formats = [
      ".tar.gz": "tgz", ".tar.xz": "txz", ".tar.zst": "tzst", ".tar.bz2": "tbz2", ".tar": "tar",
    ]
    return formats.first { lower.hasSuffix($0.key) && lower.count > $0.key.count }?.value
  }

  /// 100 of `vm-100-disk-0`, `base-100-disk-0`, `subvol-100-disk-0`.
  private static func owner(of name: Substring) -> Int? {
    let parts = name.split(separator: "-", maxSplits: 2)
    guard parts.count == 3, ["vm", "base", "subvol", "basevol"].contains(parts[0]) else {
      return nil
    }
    return Int(parts[1])
  }
}

/// `local:iso/debian.iso` in its two parts.
struct VolumeID: Sendable, Equatable {
  let storage: String
  let name: String

  /// Nil for a text that is no volume id.
  init?(_ text: String) {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, StorageTable.isStorageID(parts[0]), !parts[1].isEmpty else {
      return nil
    }
    storage = String(parts[0])
    name = String(parts[1])
  }
}
