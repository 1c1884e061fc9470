/// Volumes, firewall rules, times, certificates and the rest.
extension NamedFormats {
  static func storage(_ name: String) -> TextFormat.Check? {
    let volume: TextFormat.Check? = rule("(?i:[a-z][a-z0-9\\-\\_\\.]*[a-z0-9]):.+") {
      "unable to parse volume ID '\($0)'"
    }
    switch name {
    case "pve-volume-id": return volume
    case "pve-volume-id-or-absolute-path": return { $0.hasPrefix("/") ? nil : volume?($0) }
    case "pve-volume-id-or-qm-path":
      return { $0 == "none" || $0 == "cdrom" || $0.hasPrefix("/") ? nil : volume?($0) }
    case "pve-storage-content":
      let types: Set = [
        "backup", "images", "import", "iso", "none", "rootdir", "snippets", "vztmpl",
      ]
      return { types.contains($0) ? nil : "invalid content type '\($0)'" }
    case "pve-storage-path":
      return rule("/[^;\\(\\)]+") { _ in "value does not look like a valid absolute path" }
    case "pve-storage-vgname":
      return rule("(?i:[a-z0-9][a-z0-9\\-\\_\\.]*[a-z0-9])") {
        "lvm name '\($0)' contains illegal characters"
      }
    case "pve-storage-zfs-blocksize":
      return rule("(?i:\\d+[km]?)") { _ in "value does not look like a valid block size" }
    case "disk-size":
      return rule("\\d+(\\.\\d+)?[KMGT]?") {
        "value does not look like a valid disk size: \($0)"
      }
    case "pve-lxc-mp-string":
      return {
        let parts = $0.split(separator: "/")
        return parts.contains(".") || parts.contains("..")
          ? "\($0) contains illegal character sequences" : nil
      }
    case "pve-lxc-dev-string":
      return {
        let parts = $0.split(separator: "/")
        return !$0.hasPrefix("/dev/") || parts.contains(".") || parts.contains("..")
          ? "\($0) is not a valid device path" : nil
      }
    default: return nil
    }
  }

  static func firewall(_ name: String) -> TextFormat.Check? {
    switch name {
    case "pve-fw-addr-spec":
      let set = try? Pattern("\\+?((dc|guest|sdn)/)?[A-Za-z][A-Za-z0-9\\-\\_]+")
      let network = check("IPorCIDR")
      return { list in
        for item in list.split(separator: ",", omittingEmptySubsequences: false).map(String.init) {
          let ends = item.split(separator: "-").map(String.init)
          let isRange =
            ends.count == 2 && (ends.allSatisfy(isIPv4) || ends.allSatisfy(isIPv6))
          if isRange || set?.matches(item) == true || network?(item) == nil { continue }
          return "unable to parse address '\(item)'"
        }
        return nil
      }
    case "pve-fw-sport-spec", "pve-fw-dport-spec":
      return { list in
        for item in list.split(separator: ",", omittingEmptySubsequences: false) {
          let ends = item.split(separator: ":", omittingEmptySubsequences: false)
          for end in ends {
            if let port = Int(end) {
              guard (0...65_535).contains(port) else { return "invalid port '\(end)'" }
            } else if end.isEmpty || !end.utf8.allSatisfy({ isLetterOrDigit($0) || $0 == 45 }) {
              return "invalid port '\(end)'"
            }
          }
          if ends.count > 2 { return "invalid port range '\(item)'" }
        }
        return nil
      }
    case "pve-fw-icmp-type-spec":
      return rule("[a-z0-9]+([-/][a-z0-9]+)*") { "unknown icmp-type '\($0)'" }
    case "pve-fw-protocol-spec":
      return rule("[a-z0-9][a-z0-9\\-\\.]*") { "unknown protocol '\($0)'" }
    case "pve-fw-comment-spec":
      return { $0.contains("\n") ? "comment must be a single line" : nil }
    case "pve-fw-conntrack-helper":
      let known: Set = [
        "amanda", "ftp", "irc", "netbios-ns", "pptp", "sane", "sip", "snmp", "tftp",
      ]
      return { known.contains($0) ? nil : "unknown conntrack helper '\($0)'" }
    default: return nil
    }
  }

  static func others(_ name: String) -> TextFormat.Check? {
    switch name {
    case "urlencoded":
      return rule("[-%a-zA-Z0-9_.!~*'()]*") { "invalid urlencoded string: \($0)" }
    case "pve-priv":
      // Handlers refuse those that their era doesn't know.
      return { Privilege($0) != nil ? nil : "invalid privilege '\($0)'" }
    case "pve-startup-order":
      return rule(
        "(\\s*|(order=)?\\d+|up=\\d+|down=\\d+)(,(\\s*|(order=)?\\d+|up=\\d+|down=\\d+))*"
      ) {
        _ in "unable to parse startup options"
      }
    case "pve-task-status-type":
      return rule("(?i:ok|error|warning|unknown)") { "invalid status '\($0)'" }
    case "pve-day-of-week":
      return rule("(mon|tue|wed|thu|fri|sat|sun)") { "invalid day '\($0)'" }
    case "pve-hotplug-features":
      return rule(
        "([01]|(network|disk|cpu|memory|usb|cloudinit)(,(network|disk|cpu|memory|usb|cloudinit))*)"
      ) {
        _ in "unable to parse hotplug option"
      }
    case "pve-cpuset":
      return rule("\\s*\\d+(-\\d+)?(\\s*,\\s*\\d+(-\\d+)?)*\\s*") { _ in
        "unable to parse cpuset option"
      }
    case "pve-phys-bits":
      return {
        $0 == "host" || Int($0).map { (8...64).contains($0) } == true
          ? nil : "value must be an integer between 8 and 64"
      }
    case "pve-ct-timezone":
      return rule("(host|UTC|[A-Z][A-Za-z_]+(/[A-Za-z0-9_+\\-]+)+|[A-Z][A-Za-z0-9+\\-]+)") {
        "invalid time zone '\($0)'"
      }
    case "pve-calendar-event": return calendarEvent
    case "pem-string":
      return { isPEM($0) ? nil : "value does not look like a valid PEM string" }
    case "pem-certificate-chain":
      return {
        isPEM($0, "CERTIFICATE")
          ? nil : "value does not look like a valid PEM-encoded certificate chain"
      }
    case "pve-command-batch": return commandBatch
    default: return nil
    }
  }

  private static func isPEM(_ text: String, _ what: String = "") -> Bool {
    text.contains("-----BEGIN \(what)") && text.contains("-----END \(what)")
  }

  /// systemd's calendar events as PVE takes them: weekdays, date, time, each optional, or a word.
  private static var calendarEvent: TextFormat.Check? {
    let day = "(mon|tue|wed|thu|fri|sat|sun)[a-z]*"
    let days = "\(day)((\\.\\.|-)\(day))?(,\(day)((\\.\\.|-)\(day))?)*"
    let number = "(\\*|\\d+(\\.\\.\\d+)?)(/\\d+)?(,(\\*|\\d+(\\.\\.\\d+)?)(/\\d+)?)*"
    let date = "(\(number)-)?\(number)-\(number)"
    let time = "\(number)(:\(number)){0,2}"
    let word = "minutely|hourly|daily|weekly|monthly|yearly|annually|quarterly|semi-?annually"
    return rule(
      "(?i:\\s*(\(word)|\(days)(\\s+\(date))?(\\s+\(time))?|\(date)(\\s+\(time))?|\(time))"
        + "(\\s+UTC)?\\s*)"
    ) { "invalid calendar event '\($0)' - unable to parse calendar event" }
  }

  /// The calls of `POST /nodes/{node}/execute`: a JSON array of objects with path and method.
  @Sendable private static func commandBatch(_ text: String) -> String? {
    let value: JSON
    do throws(JSONReader.Malformed) {
      value = try JSONReader.read(Array(text.utf8))
    } catch {
      return "commands param did not contain valid JSON: \(error.message)"
    }
    guard case .array(let commands) = value else { return "commands is not an array" }
    for command in commands {
      guard case .object = command, case .string? = command["path"],
        case .string(let method)? = command["method"],
        ["GET", "POST", "PUT", "DELETE"].contains(method)
      else { return "commands item is not a valid command" }
    }
    return nil
  }
}
