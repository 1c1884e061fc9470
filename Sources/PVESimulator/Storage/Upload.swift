import EventLoop

/// A file that is being uploaded, after everything but its bytes was checked.
///
/// The bytes are counted and hashed on their way in and kept nowhere: what the storage gets is a volume of that
/// size. Reading it back is not possible, as it isn't with PVE's API.
struct UploadTarget {
  fileprivate let definition: StorageDefinition
  fileprivate let node: String
  fileprivate let content: String
  fileprivate let filename: String
  fileprivate let user: String
  fileprivate let checksum: String?
  /// The one digest that ``PVENode/finishUpload(_:size:digests:)`` needs: `md5`, `sha1`, `sha224`, `sha256`, `sha384`
  /// or `sha512`; nil where none was asked for.
  let algorithm: String?
  /// The name that PVE gives the file on its way in.
  let temporaryName: String
}

extension PVENode {
  /// Checks an upload by its other fields and the file's name, in the words of `POST …/upload`.
  ///
  /// The call's permission (`Datastore.AllocateTemplate`) and the fields' types are checked before, with the
  /// schema's rules.
  func beginUpload(_ arguments: Arguments, filename: String) throws(APIError) -> UploadTarget {
    let storage = arguments.text("storage") ?? ""
    let definition = try cluster.storages.enabled(storage, on: arguments.node)
    guard definition.kind.isFileBased else {
      throw .died("can't upload to storage type '\(definition.kind.name)'")
    }
    let content = arguments.text("content") ?? ""
    let name = PVENode.normalized(filename: filename)
    try PVENode.check(filename: name, content: content)
    guard definition.holds(content) else {
      throw .died("storage '\(storage)' does not support '\(content)' content")
    }
    return UploadTarget(
      definition: definition, node: arguments.node, content: content, filename: name,
      user: arguments.authID, checksum: arguments.text("checksum"),
      algorithm: arguments.text("checksum-algorithm"),
      temporaryName: "/var/tmp/pveupload-\(lowerHex(randomBytes(16)))")
  }

  /// Starts the task that moves the file to its place, and gives its UPID.
  /// - Parameter digests: Lower-case hexadecimal digests by algorithm; the target's is needed where it names one.
  func finishUpload(_ target: UploadTarget, size: Int, digests: [String: String]) -> String {
    let folder = PVENode.folder(of: target.content)
    let path = "\(target.definition.path)/\(folder)/\(target.filename)"
    return run("imgcopy", id: "", user: target.user) { run in
      run.log("starting file import from: \(target.temporaryName)")
      if let algorithm = target.algorithm {
        let found = digests[algorithm] ?? ""
        guard found == target.checksum?.lowercased() else {
          run.log("calculating checksum...")
          run.fail("checksum mismatch: got '\(found)' != expect '\(target.checksum ?? "")'")
          return
        }
        run.log("calculating checksum...OK, checksum verified")
      }
      let isLocal = target.node == self.name
      run.log([
        "target node: \(target.node)", "target file: \(path)", "file size is: \(size)",
        "command: "
          + (isLocal
            ? "cp -- \(target.temporaryName) \(path)"
            : "/usr/bin/scp -p -- \(target.temporaryName) [192.0.2.10]:\(path)"),
      ])
      run.after(self.timings.task) { [weak self] run in
        self?.add(target, size: size)
        run.log("finished file import successfully")
        run.finish()
      }
    }
  }

  private func add(_ target: UploadTarget, size: Int) {
    let volumeName = "\(PVENode.contentPrefix(of: target.content))/\(target.filename)"
    guard let parts = try? VolumeName(volumeName, on: target.definition.kind) else { return }
    cluster.storages.put(
      Volume(
        storage: target.definition.id, name: volumeName, content: target.content,
        format: parts.format, size: size, created: clock.now), on: target.node)
  }

  // MARK: names of files

  /// What PVE makes of a file's name: no folders, and `_` for anything unusual.
  static func normalized(filename: String) -> String {
    let last = filename.split(whereSeparator: { $0 == "/" || $0 == "\\" }).last ?? ""
    let safe = last.unicodeScalars.map { c -> Character in
      let isSafe =
        c.isASCII && (c.properties.isAlphabetic || ("0"..."9").contains(Character(c)))
        || "-.+=_".unicodeScalars.contains(c)
      return isSafe ? Character(c) : "_"
    }
    return String(safe)
  }

  /// - Throws: The 400 for an ending that the content type doesn't have.
  static func check(filename: String, content: String) throws(APIError) {
    let lower = filename.lowercased()
    func ends(_ endings: [String]) -> Bool {
      endings.contains { lower.hasSuffix($0) && lower.count > $0.count }
    }
    switch content {
    case "iso":
      guard ends([".iso", ".img"]) else { throw wrong("wrong file extension") }
    case "vztmpl":
      guard VolumeName.templateFormat(filename) != nil else { throw wrong("wrong file extension") }
    case "import":
      guard ends([".ova", ".qcow2", ".raw", ".vmdk"]) else {
        throw wrong("invalid filename or wrong extension")
      }
    default:
      throw .invalid([.init(name: "content", text: "upload content type '\(content)' not allowed")])
    }
  }

  private static func wrong(_ text: String) -> APIError {
    .invalid([.init(name: "filename", text: text)])
  }

  /// Where a directory storage keeps a content type.
  static func folder(of content: String) -> String {
    switch content {
    case "iso": "template/iso"
    case "vztmpl": "template/cache"
    case "backup": "dump"
    default: content
    }
  }

  /// How volume names of a content type begin.
  static func contentPrefix(of content: String) -> String { content }
}
