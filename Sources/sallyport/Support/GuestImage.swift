import Foundation
import Glibc
import PVESimulator

/// The small Linux that `--with-qemu` boots: made once out of Debian's packages by `packaging/guest-image/build.sh`, and
/// kept.
struct GuestImage {
  /// Folder with `vmlinuz` and `initrd`.
  let folder: String
  var kernel: String { folder + "/vmlinuz" }
  var initialRAM: String { folder + "/initrd" }

  /// Finds it, or makes it, which takes a network and some seconds.
  static func ready() throws(Failure) -> GuestImage {
    let named = Environment["SALLYPORT_GUEST_IMAGE"]
    for folder in named.map({ [$0] }) ?? places where isWhole(folder) {
      return GuestImage(folder: folder)
    }
    guard let script = scripts.first(where: { access($0, X_OK) == 0 }) else {
      throw Failure(
        kind: "guest-image-missing", sentence: "There is no small Linux for a QEMU guest.",
        remedy:
          "make guest-image in Sallyport's source makes one; $SALLYPORT_GUEST_IMAGE names its "
          + "folder. Or leave --with-qemu out.")
    }
    guard let target = named ?? places.last else {
      throw Failure(kind: "guest-image-missing", sentence: "There is no folder for a guest image.")
    }
    try build(with: script, into: target)
    guard isWhole(target) else {
      throw Failure(
        kind: "guest-image-failed", sentence: "\(script) made no guest image in \(target).")
    }
    return GuestImage(folder: target)
  }

  private static func isWhole(_ folder: String) -> Bool {
    access(folder + "/vmlinuz", R_OK) == 0 && access(folder + "/initrd", R_OK) == 0
  }

  /// The folders above the program: of `.build/debug/sallyport`, of `/usr/local/bin/sallyport`.
  private static var above: [URL] {
    let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    var out: [URL] = []
    var folder = program.deletingLastPathComponent()
    while folder.path != "/", out.count < 6 {
      out.append(folder)
      folder = folder.deletingLastPathComponent()
    }
    return out
  }

  /// Where one may be, and last where one is made.
  private static var places: [String] {
    let built = above.filter { $0.lastPathComponent == ".build" }.map { $0.path + "/guest-image" }
    let installed = above.map { $0.path + "/share/sallyport/guest-image/image" }
    let home = Environment["XDG_CACHE_HOME"] ?? Environment["HOME"].map { $0 + "/.cache" }
    let cache = home.map { [$0 + "/sallyport/guest-image"] } ?? []
    // Beside the build, where we run out of one.
    return installed + cache + built
  }

  private static var scripts: [String] {
    above.flatMap {
      [
        $0.path + "/packaging/guest-image/build.sh",
        $0.path + "/share/sallyport/guest-image/build.sh",
      ]
    }
  }

  private static func build(with script: String, into folder: String) throws(Failure) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: script)
    process.arguments = [folder]
    process.standardInput = FileHandle.nullDevice
    // Standard output belongs to our caller, who may be reading JSON from it.
    process.standardOutput = FileHandle.standardError
    process.standardError = FileHandle.standardError
    do {
      try process.run()
    } catch {
      throw Failure(kind: "guest-image-failed", sentence: "\(script) didn't start: \(error).")
    }
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Failure(
        kind: "guest-image-failed",
        sentence: "The small Linux for a QEMU guest could not be made; the reason is above.",
        remedy: "It needs Debian's packages from a mirror. Or leave --with-qemu out.")
    }
  }
}
