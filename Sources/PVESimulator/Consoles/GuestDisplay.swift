/// What a guest's configuration means for its consoles.
extension Guest {
  /// A VM's display: `std`, `qxl`, `serial0` …
  private var displayOption: String {
    let value = config.options["vga"] ?? "std"
    let first = value.split(separator: ",").first ?? ""
    return String(first.hasPrefix("type=") ? first.dropFirst(5) : first)
  }

  /// Whether QEMU has a SPICE server for it.
  var hasSpice: Bool { displayOption.hasPrefix("qxl") }

  /// The serial port that is a VM's display, if one is.
  var serialDisplay: String? { displayOption.hasPrefix("serial") ? displayOption : nil }

  /// What `dtach` runs for a container, by its console mode.
  var consoleCommand: String {
    switch config.options["cmode"] {
    case "console": "lxc-console -n \(vmid) -t 0 -e -1"
    case "shell": "lxc-attach --clear-env -n \(vmid)"
    default: "lxc-console -n \(vmid) -e -1"
    }
  }
}
