import ArgumentParser
import Foundation
import Glibc
import PVESimulator

/// What runs a real QEMU's guest.
enum Accelerator: String, ExpressibleByArgument, CaseIterable {
  /// QEMU itself.
  case tcg
  /// The kernel, where a guest really boots on it.
  case kvm
  /// KVM where it works, else TCG.
  case auto
}

/// VM 103 `real-qemu` of the embedded node: a real QEMU that boots a small Linux. The node starts, resets and stops it.
enum QEMUGuest {
  /// Describes it, after finding (or making) what it boots.
  /// - Returns: the guest, and what there is to say about it.
  static func ready(_ wish: Accelerator) throws(Failure) -> (guest: SimulatedGuest, note: String?) {
    guard let program = Programs.find("qemu-system-x86_64") else {
      throw Failure(
        kind: "qemu-missing", sentence: "There is no qemu-system-x86_64 on this machine.",
        remedy: "apt-get install qemu-system-x86, or leave --with-qemu out.")
    }
    let image = try GuestImage.ready()
    var machine = RealMachineDescription(
      program: program, kernel: image.kernel, initialRAM: image.initialRAM)
    var note: String?
    if wish != .tcg {
      if let reason = whyNoKVM(machine) {
        if wish == .kvm { note = "No guest boots on KVM here (\(reason)); VM 103 runs without it." }
      } else {
        machine.accelerator = .kvm
      }
    }
    var guest = SimulatedGuest.vm(
      103, name: "real-qemu", tags: ["qemu"], serial: [0: .shell], agent: true)
    guest.machine = machine
    guest.memory = 256 << 20
    guest.cores = 1
    return (guest, note)
  }

  /// How long a guest may take to say something on KVM, which takes it half a second.
  private static let patience: TimeInterval = 8

  /// Boots a guest on KVM and waits for its first word; `/dev/kvm` opens on machines where none ever comes.
  private static func whyNoKVM(_ machine: RealMachineDescription) -> String? {
    guard access("/dev/kvm", R_OK | W_OK) == 0 else { return "/dev/kvm can't be opened" }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: machine.program)
    process.arguments = [
      "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc,accel=kvm", "-cpu",
      "host", "-m", "128", "-kernel", machine.kernel, "-initrd", machine.initialRAM, "-append",
      "console=ttyS0 quiet sallyport.probe", "-serial", "stdio", "-no-reboot",
    ]
    let pipe = Pipe()
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = pipe
    process.standardError = pipe
    do {
      try process.run()
    } catch {
      return "QEMU didn't start"
    }
    defer {
      process.terminate()
      for _ in 0..<50 where process.isRunning { usleep(20_000) }
      if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    }
    let deadline = Date().addingTimeInterval(patience)
    let descriptor = pipe.fileHandleForReading.fileDescriptor
    var text: [UInt8] = []
    while Date() < deadline {
      var poller = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      guard poll(&poller, 1, 100) > 0 else { continue }
      var chunk = [UInt8](repeating: 0, count: 4096)
      let n = read(descriptor, &chunk, chunk.count)
      guard n > 0 else {
        let last = String(decoding: text, as: UTF8.self).split(separator: "\n").last
        return last.map(String.init) ?? "QEMU ended at once"
      }
      text += chunk.prefix(n)
      if text.firstRange(of: Array("sallyport-guest-is-up".utf8)) != nil { return nil }
    }
    return "its guest says nothing for \(Int(patience)) seconds"
  }
}
