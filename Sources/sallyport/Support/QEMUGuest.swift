import ConsoleProtocol
import Foundation
import Glibc
import PVESimulator

/// A real QEMU as a VM of the embedded node: its own VNC server, password and all. No KVM, no disk image: it boots a
/// sector that writes what is typed.
final class QEMUGuest {
  private let folder: URL
  private let process: Process

  /// Starts it and waits for its sockets.
  init() throws(Failure) {
    guard let path = Programs.find("qemu-system-x86_64") else {
      throw Failure(
        kind: "qemu-missing", sentence: "There is no qemu-system-x86_64 on this machine.",
        remedy: "apt-get install qemu-system-x86, or leave --with-qemu out.")
    }
    var template = Array("/tmp/sallyport-qemu-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw Failure(
        kind: "system", sentence: "No temporary folder: \(String(cString: strerror(errno))).")
    }
    let name = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    folder = URL(fileURLWithPath: name)
    process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = [
      "-nodefaults", "-machine", "pc,accel=tcg", "-m", "32", "-vga", "std",
      "-drive", "file=\(name)/disk,format=raw,if=ide",
      "-vnc", "unix:\(name)/vnc,password=on", "-qmp", "unix:\(name)/qmp,server=on,wait=off",
      "-usb", "-device", "usb-tablet",
    ]
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    do {
      try Data(QEMUGuest.disk).write(to: folder.appendingPathComponent("disk"))
      try process.run()
    } catch {
      throw Failure(kind: "qemu-failed", sentence: "QEMU didn't start: \(error).")
    }
    for _ in 0..<100 where access("\(name)/qmp", F_OK) != 0 || access("\(name)/vnc", F_OK) != 0 {
      guard process.isRunning else {
        throw Failure(
          kind: "qemu-failed", sentence: "QEMU ended at once.", remedy: "Start it by hand.")
      }
      usleep(50_000)
    }
  }

  /// The VM for the embedded node: 103 `real-qemu`.
  var guest: SimulatedGuest {
    let display = ExternalDisplay(.unix("\(folder.path)/vnc"), qmpSocket: "\(folder.path)/qmp")
    return .vm(103, name: "real-qemu", tags: ["qemu"], display: .external(display))
  }

  /// Ends it and removes its files.
  func stop() {
    process.terminate()
    // `waitUntilExit()` turns a run loop, and hangs where the thread has none.
    for _ in 0..<100 where process.isRunning { usleep(20_000) }
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    try? FileManager.default.removeItem(at: folder)
  }

  /// A disk whose boot sector prints a line and then every key that is typed, by the BIOS.
  private static var disk: [UInt8] {
    let code: [UInt8] = [
      0x31, 0xc0,  // xor ax, ax
      0x8e, 0xd8,  // mov ds, ax
      0xfc,  // cld
      0xbe, 0x1d, 0x7c,  // mov si, text
      0xac,  // lodsb
      0x84, 0xc0, 0x74, 0x06,  // test al, al; jz keys
      0xb4, 0x0e, 0xcd, 0x10,  // print al
      0xeb, 0xf5,  // next letter
      0x31, 0xc0, 0xcd, 0x16,  // keys: wait for one
      0xb4, 0x0e, 0xcd, 0x10,  // print al
      0xeb, 0xf6,  // next key
    ]
    let text = Array("Sallyport: this is a real QEMU. Type something: ".utf8) + [0]
    var disk = code + text
    disk += [UInt8](repeating: 0, count: 510 - disk.count) + [0x55, 0xaa]
    return disk + [UInt8](repeating: 0, count: (1 << 20) - disk.count)
  }
}
