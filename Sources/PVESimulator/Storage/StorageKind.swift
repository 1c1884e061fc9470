/// What PVE's storage plugins have in common and where they differ, one row a type.
struct StorageKind: Sendable {
  let name: String
  /// Content types that it can hold.
  let contents: [String]
  /// Those that it holds where the definition names none.
  let usual: [String]
  /// Image formats; the first is the default.
  let formats: [String]
  /// Whether volumes are files in a directory.
  let isFileBased: Bool
  let isAlwaysShared: Bool
  /// Options that a definition must have.
  let required: [String]
  /// Options that can't be changed later.
  let fixed: [String]
  /// Further options that it knows, besides those that every type knows.
  let optional: [String]

  private init(
    _ name: String, contents: [String], usual: [String], formats: [String],
    isFileBased: Bool = false, isAlwaysShared: Bool = false, required: [String] = [],
    fixed: [String]? = nil, optional: [String] = []
  ) {
    self.name = name
    self.contents = contents
    self.usual = usual
    self.formats = formats
    self.isFileBased = isFileBased
    self.isAlwaysShared = isAlwaysShared
    self.required = required
    self.fixed = fixed ?? required
    self.optional = optional
  }

  /// Whether a definition may hold an option.
  func knows(_ option: String) -> Bool {
    required.contains(option) || fixed.contains(option) || optional.contains(option)
      || StorageKind.common.contains(option)
  }

  /// PVE's words for a volume name that it can't read.
  func unreadable(_ name: String) -> String {
    let word =
      switch self.name {
      case "lvm", "lvmthin": "lvm"
      case "zfs", "zfspool": "zfs"
      case "rbd", "iscsi", "pbs": self.name
      default: "directory"
      }
    return "unable to parse \(word) volume name '\(name)'"
  }

  private static let common = [
    "content", "disable", "nodes", "shared", "bwlimit", "prune-backups", "max-protected-backups",
  ]
  private static let files = ["images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import"]
  private static let disks = ["images", "rootdir"]
  private static let directories = [
    "content-dirs", "create-base-path", "create-subdirs", "mkdir", "format", "preallocation",
    "snapshot-as-volume-chain",
  ]

  static let all: [String: StorageKind] = Dictionary(
    uniqueKeysWithValues: [
      StorageKind(
        "dir", contents: files + ["none"], usual: disks,
        formats: ["raw", "qcow2", "vmdk", "subvol"],
        isFileBased: true, required: ["path"], optional: directories + ["is_mountpoint"]),
      StorageKind(
        "btrfs", contents: files + ["none"], usual: disks, formats: ["raw", "subvol"],
        isFileBased: true, required: ["path"],
        optional: directories + ["is_mountpoint", "nocow"]),
      StorageKind(
        "nfs", contents: files, usual: ["images"], formats: ["raw", "qcow2", "vmdk"],
        isFileBased: true, isAlwaysShared: true, required: ["server", "export"],
        fixed: ["server", "export", "path"], optional: directories + ["options"]),
      StorageKind(
        "cifs", contents: files, usual: ["images"], formats: ["raw", "qcow2", "vmdk"],
        isFileBased: true, isAlwaysShared: true, required: ["server", "share"],
        fixed: ["server", "share", "path"],
        optional: directories + [
          "username", "password", "domain", "smbversion", "options", "subdir",
        ]
      ),
      StorageKind(
        "cephfs", contents: ["vztmpl", "iso", "backup", "snippets", "import"], usual: ["backup"],
        formats: ["raw"], isFileBased: true, isAlwaysShared: true, fixed: ["path"],
        optional: directories + [
          "monhost", "username", "fuse", "keyring", "subdir", "fs-name", "options",
        ]
      ),
      StorageKind(
        "lvm", contents: disks, usual: ["images"], formats: ["raw", "qcow2"], required: ["vgname"],
        fixed: ["vgname", "base"],
        optional: [
          "saferemove", "saferemove_throughput", "saferemove-stepsize", "tagged_only",
          "snapshot-as-volume-chain",
        ]),
      StorageKind(
        "lvmthin", contents: disks, usual: disks, formats: ["raw"],
        required: ["vgname", "thinpool"]),
      StorageKind(
        "zfspool", contents: disks, usual: disks, formats: ["raw", "subvol"], required: ["pool"],
        optional: ["blocksize", "sparse", "mountpoint"]),
      StorageKind(
        "zfs", contents: ["images"], usual: ["images"], formats: ["raw"], isAlwaysShared: true,
        required: ["portal", "target", "pool", "iscsiprovider"],
        optional: [
          "blocksize", "sparse", "comstar_hg", "comstar_tg", "nowritecache", "lio_tpg",
          "zfs-base-path",
        ]),
      StorageKind(
        "rbd", contents: disks, usual: ["images"], formats: ["raw"], isAlwaysShared: true,
        optional: ["monhost", "pool", "data-pool", "namespace", "username", "krbd", "keyring"]),
      StorageKind(
        "iscsi", contents: ["images", "none"], usual: ["images"], formats: ["raw"],
        isAlwaysShared: true, required: ["portal", "target"]),
      StorageKind(
        "iscsidirect", contents: ["images", "none"], usual: ["images"], formats: ["raw"],
        isAlwaysShared: true, required: ["portal", "target"]),
      StorageKind(
        "pbs", contents: ["backup", "none"], usual: ["backup"], formats: ["raw"],
        isAlwaysShared: true, required: ["server", "datastore"],
        optional: [
          "port", "username", "password", "encryption-key", "master-pubkey", "fingerprint",
          "namespace", "skip-cert-verification",
        ]),
      StorageKind(
        "esxi", contents: ["import"], usual: ["import"], formats: ["raw"], isAlwaysShared: true,
        required: ["server", "username", "password"], fixed: [],
        optional: ["skip-cert-verification", "port"]),
    ].map { ($0.name, $0) })
}
