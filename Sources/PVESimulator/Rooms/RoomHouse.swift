import CSallyport
import Glibc

/// The folder in which the rooms of a cluster have their files. It is made with the first room and removed at the end;
/// what a simulator that was killed left behind is removed by the next.
final class RoomHouse {
  private var folder: String?
  private var lock: Int32 = -1
  private static let prefix = "sallyport-rooms"

  /// Whether there is a folder.
  var isUsed: Bool { folder != nil }

  /// The folder of one guest; it may not exist yet. Nil where there is nowhere to put it.
  func folder(of vmid: Int) -> String? { place("\(vmid)") }

  /// A folder for something else, e.g. a node's tools.
  func place(_ name: String) -> String? {
    if folder == nil {
      RoomHouse.sweep()
      guard let made = TemporaryFolder.make(RoomHouse.prefix) else { return nil }
      folder = made
      lock = open(made + "/.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
      if lock >= 0 { flock(lock, LOCK_EX | LOCK_NB) }
    }
    return folder.map { "\($0)/\(name)" }
  }

  /// Removes the files of one guest, on a thread of its own.
  func forget(_ vmid: Int) {
    guard let folder else { return }
    let old = "\(folder)/\(vmid)"
    // Out of the way first, so that a new guest of the same number gets an empty room.
    let doomed = "\(folder)/.gone-\(randomUUID())"
    guard rename(old, doomed) == 0 else { return }
    RoomHouse.removeLater(doomed)
  }

  /// Removes everything.
  func remove() {
    guard let folder else { return }
    sp_remove_tree(folder)
    if lock >= 0 { close(lock) }
    lock = -1
    self.folder = nil
  }

  private static func removeLater(_ path: String) {
    var thread = pthread_t()
    let box = Unmanaged.passRetained(Box(path)).toOpaque()
    let made = pthread_create(
      &thread, nil,
      { box in
        guard let box else { return nil }
        sp_remove_tree(Unmanaged<Box>.fromOpaque(box).takeRetainedValue().path)
        return nil
      }, box)
    if made == 0 {
      pthread_detach(thread)
    } else {
      Unmanaged<Box>.fromOpaque(box).release()
    }
  }

  private final class Box {
    let path: String
    init(_ path: String) { self.path = path }
  }

  /// Removes the folders whose owner is gone: nobody holds their lock.
  private static func sweep() {
    let base = TemporaryFolder.base
    guard let directory = opendir(base) else { return }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      guard name.hasPrefix(prefix + "-") else { continue }
      let lock = open("\(base)/\(name)/.lock", O_RDWR | O_CLOEXEC)
      guard lock >= 0 else { continue }
      if flock(lock, LOCK_EX | LOCK_NB) == 0 { removeLater("\(base)/\(name)") }
      close(lock)
    }
  }
}
