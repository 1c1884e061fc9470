/// `/nodes/{node}` without guests, tasks and consoles.
extension PVENode {
  static let nodeOperations: [Operation] = [
    Operation(method: "GET", path: "/nodes/{node}", parameters: [.node]) { _, _ in
      let names = [
        "certificates", "lxc", "qemu", "status", "storage", "tasks", "termproxy", "version",
        "vncshell",
      ]
      return APIResult(.array(names.map { ["name": .string($0)] }))
    },
    Operation(
      method: "GET", path: "/nodes/{node}/version", parameters: [.node], isForwarded: true
    ) { node, _ in
      APIResult([
        "version": .string(node.era.version), "release": .string(node.era.release),
        "repoid": .string(node.era.repositoryID),
      ])
    },
    Operation(
      method: "GET", path: "/nodes/{node}/status", parameters: [.node],
      permission: .privileges(["Sys.Audit"], on: "/nodes/{node}"), isForwarded: true
    ) { node, _ in
      let kernel = "6.14.11-100-pve"
      let build = "#1 SMP PREEMPT_DYNAMIC @0"
      return APIResult([
        "uptime": .int(node.clock.now - node.booted), "cpu": 0, "wait": 0, "idle": 0,
        "loadavg": ["0.03", "0.31", "0.70"],
        "pveversion": .string("pve-manager/\(node.era.version)/\(node.era.repositoryID)"),
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
      ])
    },
    Operation(
      method: "GET", path: "/nodes/{node}/storage",
      parameters: [
        .node, .string("content", optional: true), .boolean("enabled"), .boolean("format"),
        .string("storage", optional: true), .string("target", optional: true, format: .node),
      ],
      isProtected: true, isForwarded: true
    ) { node, arguments in
      guard node.holds(arguments, "Datastore.Audit", on: "/storage/local") else {
        return APIResult([])
      }
      return APIResult([
        [
          "storage": "local", "type": "dir", "shared": 0, "enabled": 1, "active": 1,
          "content": "rootdir,backup,vztmpl,iso,snippets,images", "total": 270_553_174_016,
          "used": 23_475_339_264, "avail": 77_967_847_424, "used_fraction": 0.0867679314773506,
        ]
      ])
    },
    Operation(
      method: "GET", path: "/nodes/{node}/certificates/info", parameters: [.node],
      isForwarded: true
    ) { node, _ in
      let set = node.certificates
      let subject = "/OU=PVE Cluster Node/O=Proxmox Virtual Environment/CN=\(node.name)"
      let names = set.alternativeNames.map {
        JSON.string($0 == "::1" ? "0000:0000:0000:0000:0000:0000:0000:0001" : $0)
      }
      return APIResult([
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
      ])
    },
  ]
}
