/// `/nodes/{node}` without guests, storages, tasks and consoles.
extension PVENode {
  static let nodeOperations: [Operation] = [
    Operation("GET", "/nodes/{node}") { _, _ in
      APIResult(.array(directory.map { ["name": .string($0)] }))
    },
    Operation("GET", "/nodes/{node}/version") { node, _ in
      APIResult([
        "version": .string(node.era.version), "release": .string(node.era.release),
        "repoid": .string(node.era.repositoryID),
      ])
    },
    Operation("GET", "/nodes/{node}/status") { node, _ in
      APIResult(node.statusAnswer)
    },
    Operation("POST", "/nodes/{node}/status") { node, arguments in
      node.power(arguments.text("command") ?? "")
    },
    Operation("GET", "/nodes/{node}/rrd") { _, _ in
      APIResult(["filename": "/var/cache/pve-rrd/node.png"])
    },
    Operation("GET", "/nodes/{node}/rrddata") { node, arguments in
      node.nodeSeries(arguments)
    },
    Operation("GET", "/nodes/{node}/certificates/info") { node, _ in
      APIResult(node.certificateAnswer)
    },
  ]

  private static let directory = [
    "aplinfo", "apt", "capabilities", "ceph", "certificates", "config", "disks", "dns", "firewall",
    "hardware", "hosts", "journal", "lxc", "migrateall", "netstat", "network", "qemu",
    "query-oci-repo-tags", "query-url-metadata", "replication", "report", "rrd", "rrddata", "scan",
    "sdn", "services", "spiceshell", "startall", "status", "stopall", "storage", "subscription",
    "suspendall", "syslog", "tasks", "termproxy", "time", "version", "vncshell", "vzdump",
    "wakeonlan",
  ]

  private var statusAnswer: JSON {
    let kernel = era.kernelRelease
    let build = "#1 SMP PREEMPT_DYNAMIC @0"
    return [
      "uptime": .int(clock.now - booted), "cpu": 0, "wait": 0, "idle": 0,
      "loadavg": ["0.03", "0.31", "0.70"],
      "pveversion": .string("pve-manager/\(era.version)/\(era.repositoryID)"),
      "kversion": .string("Linux \(kernel) \(build)"),
      "current-kernel": [
        "sysname": "Linux", "release": .string(kernel), "version": .string(build),
        "machine": "x86_64",
      ],
      "boot-info": ["mode": "legacy-bios"], "ksm": ["shared": 0],
      "cpuinfo": [
        "cpus": 2, "cores": 2, "sockets": 1, "mhz": "2700.000", "hvm": "", "user_hz": 100,
        "family": "6", "model": "Simulated Processor", "vendor": "GenuineIntel",
        "flags": "fpu vme de pse tsc msr pae mce cx8 apic",
      ],
      "memory": [
        "total": 25_276_514_304, "used": 1_327_472_640, "free": 23_649_837_056,
        "available": 23_949_041_664,
      ],
      "swap": ["total": 0, "used": 0, "free": 0],
      "rootfs": [
        "total": 270_553_174_016, "used": 23_475_339_264, "free": 247_077_834_752,
        "avail": 77_967_847_424,
      ],
    ]
  }

  /// Shutting down stops the node's guests and takes it off the network; a reboot brings it back at once, without
  /// those guests that don't start at boot.
  private func power(_ command: String) -> APIResult {
    loop.schedule(after: timings.task) { [weak self] in
      guard let self else { return }
      for guest in guests.values where guest.node === self { guest.stop() }
      set(.unreachable)
      guard command == "reboot" else { return }
      loop.schedule(after: timings.task * 5) { [weak self] in
        guard let self else { return }
        set(.up)
        for guest in guests.values
        where guest.node === self && guest.config.options["onboot"] == "1" { guest.start() }
      }
    }
    return APIResult(.null)
  }

  private var certificateAnswer: JSON {
    let set = certificates
    let subject = "/OU=PVE Cluster Node/O=Proxmox Virtual Environment/CN=\(name)"
    let names = set.alternativeNames.map {
      JSON.string($0 == "::1" ? "0000:0000:0000:0000:0000:0000:0000:0001" : $0)
    }
    return [
      [
        "filename": "pve-root-ca.pem", "fingerprint": .string("\(set.caFingerprint)"),
        "subject": .string(set.issuer), "issuer": .string(set.issuer), "san": [],
        "notbefore": .int(set.notBefore), "notafter": .int(set.caNotAfter),
        "pem": .string(set.caPEM), "public-key-type": "id-ecPublicKey", "public-key-bits": 256,
      ],
      [
        "filename": "pve-ssl.pem", "fingerprint": .string("\(set.fingerprint)"),
        "subject": .string(subject), "issuer": .string(set.issuer), "san": .array(names),
        "notbefore": .int(set.notBefore), "notafter": .int(set.notAfter),
        "pem": .string(set.certificatePEM), "public-key-type": "id-ecPublicKey",
        "public-key-bits": 256,
      ],
    ]
  }
}
