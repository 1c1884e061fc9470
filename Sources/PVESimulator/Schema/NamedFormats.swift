/// The formats that PVE's schema refers to by name.
///
/// Of these only the name is known, so that they accept any text that fits the type: `graphite-path`,
/// `pve-acme-alias`, `pve-acme-domain`, `pve-dir-override`, `pve-node-location`, `pve-qm-bootdisk`,
/// `pve-sdn-bgp-rt`, `pve-sdn-fabric-id`, `pve-sdn-fabric-wireguard-interface`, `pve-sdn-isis-net`,
/// `pve-sdn-prefix-list-id`, `pve-sdn-route-map-id`, `pve-sdn-subnet-id`, `pve-storage-options`,
/// `pve-storage-path-in-property-string`. Some of them have a pattern beside the name.
enum NamedFormats {
  /// A format of texts; `-list` and `-opt` are cut off and remembered.
  static func text(_ name: String) -> TextFormat {
    for (suffix, repetition) in [
      ("-list", TextFormat.Repetition.list), ("-opt", .optional),
    ] where name.hasSuffix(suffix) {
      let single = String(name.dropLast(suffix.count))
      return TextFormat(name: single, repetition: repetition, check: check(single))
    }
    return TextFormat(name: name, repetition: .once, check: check(name))
  }

  static func check(_ name: String) -> TextFormat.Check? {
    addresses(name) ?? identifiers(name) ?? users(name) ?? storage(name) ?? firewall(name)
      ?? others(name)
  }

  /// A check by a pattern and the text for what doesn't match.
  static func rule(_ pattern: String, _ complaint: @escaping @Sendable (String) -> String)
    -> TextFormat.Check?
  {
    guard let pattern = try? Pattern(pattern) else { return nil }
    return { pattern.matches($0) ? nil : complaint($0) }
  }

  /// Property strings that the schema refers to by name, in ``SchemaReader``'s spelling.
  static let propertyStrings: [String: String] = [
    "backup-fleecing": keys("enabled b? =0 $", "storage s? %pve-storage-id"),
    "backup-performance": keys("max-workers i? <1 >256 =16", "pbs-entries-max i? <1 =1048576"),
    "prune-backups": keys(
      "keep-all b?", "keep-daily i? <0", "keep-hourly i? <0", "keep-last i? <0",
      "keep-monthly i? <0", "keep-weekly i? <0", "keep-yearly i? <0"),
    "proxmox-remote": keys(
      "apitoken s", "fingerprint s? ~([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}", "host s", "port i?"),
    "pve-qemu-sev-fmt": keys(
      "allow-smt b? =1", "kernel-hashes b? =0", "no-debug b? =0", "no-key-sharing b? =0",
      "type s $ |std|es|snp"),
    "pve-qemu-tdx-fmt": keys(
      "attestation b? =1", "type s $ |tdx", "vsock-cid i? <2 =2", "vsock-port i? <0 =4050"),
    "pve-qm-boot": keys("legacy s? ~[acdn]{1,4} $", "order s?"),
    "pve-qm-cicustom": keys(
      "meta s? %pve-volume-id", "network s? %pve-volume-id", "user s? %pve-volume-id",
      "vendor s? %pve-volume-id"),
    "pve-qm-hostpci": keys(
      "device-id s? ~0x[0-9a-fA-F]{4}", "driver s? |vfio|keep",
      "host s? $ ~([0-9A-Fa-f]{1,4}:)?[0-9A-Fa-f]{1,2}:[0-9A-Fa-f]{1,2}(\\.[0-9A-Fa-f])?"
        + "(;([0-9A-Fa-f]{1,4}:)?[0-9A-Fa-f]{1,2}:[0-9A-Fa-f]{1,2}(\\.[0-9A-Fa-f])?)*",
      "legacy-igd b? =0", "mapping s? %pve-configid", "mdev s? ~[^/\\.:]+", "pcie b? =0",
      "rombar b? =1", "romfile s? ~[^,;]+", "sub-device-id s? ~0x[0-9a-fA-F]{4}",
      "sub-vendor-id s? ~0x[0-9a-fA-F]{4}", "vendor-id s? ~0x[0-9a-fA-F]{4}", "x-vga b? =0"),
    "pve-qm-ipconfig": keys(
      "gw s? %ipv4 +ip", "gw6 s? %ipv6 +ip6", "ip s? %pve-ipv4-config =dhcp",
      "ip6 s? %pve-ipv6-config =dhcp"),
    "pve-qm-rng": keys(
      "max_bytes i? =1024", "period i? =1000", "source s $ |/dev/urandom|/dev/random|/dev/hwrng"),
    "pve-qm-smbios1": keys(
      "base64 b?", "family s? ~[A-Za-z0-9+/]+={0,2}", "manufacturer s? ~[A-Za-z0-9+/]+={0,2}",
      "product s? ~[A-Za-z0-9+/]+={0,2}", "serial s? ~[A-Za-z0-9+/]+={0,2}",
      "sku s? ~[A-Za-z0-9+/]+={0,2}",
      "uuid s? ~[a-fA-F0-9]{8}(?:-[a-fA-F0-9]{4}){3}-[a-fA-F0-9]{12}",
      "version s? ~[A-Za-z0-9+/]+={0,2}"),
    "pve-qm-watchdog": keys(
      "action s? |reset|shutdown|poweroff|pause|debug|none", "model s? =i6300esb $ |i6300esb|ib700"
    ),
    "pve-sdn-dhcp-range": keys("end-address s %ip", "start-address s %ip"),
    "pve-tfa-config": keys(
      "digits i? <6 >8", "id s?", "key s?", "step i? <10", "type s |yubico|oath", "url s?"),
    "pve-vm-cpu-conf": keys(
      "cputype s? $ %pve-cpu-model",
      "flags s? ~([+-][a-zA-Z0-9\\-_\\.]+)(;[+-][a-zA-Z0-9\\-_\\.]+)*",
      "guest-phys-bits i? <32 >64", "hidden b? =0", "hv-vendor-id s? ~[a-zA-Z0-9]{1,12}",
      "phys-bits s? %pve-phys-bits", "reported-model s? =kvm64"),
    "realm-sync-options": keys(
      "enable-new b? =1", "full b?", "purge b?",
      "remove-vanished s? ~(?:(?:(?:acl|properties|entry);)*(?:acl|properties|entry))|none",
      "scope s? |users|groups|both"),
  ]

  private static func keys(_ lines: String...) -> String {
    lines.map { $0.replacing(" ", with: "\t") + "\t;" }.joined(separator: "\t")
  }
}
