/// A VM that is a real QEMU process: what it boots, and on what.
public struct RealMachineDescription: Sendable, Hashable {
  /// What runs the guest's instructions.
  public enum Accelerator: String, Sendable, Hashable, CaseIterable {
    /// QEMU itself: slow, and works everywhere.
    case tcg
    /// The kernel. `/dev/kvm` may open on machines whose processor can't.
    case kvm
  }

  /// QEMU's path.
  public var program: String
  /// The kernel's path.
  public var kernel: String
  /// The initramfs' path.
  public var initialRAM: String
  /// What runs it.
  public var accelerator: Accelerator

  /// Puts the parts together.
  public init(
    program: String, kernel: String, initialRAM: String, accelerator: Accelerator = .tcg
  ) {
    self.program = program
    self.kernel = kernel
    self.initialRAM = initialRAM
    self.accelerator = accelerator
  }
}
