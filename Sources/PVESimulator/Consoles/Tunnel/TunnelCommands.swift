import EventLoop

/// What each command of the tunnel does.
extension TunnelCommand {
  /// Those of VMs and containers alike.
  static let common: [String: TunnelCommand] = [
    "version": TunnelCommand(parameters: []) { _, _, reply throws(Failure) in
      reply([.init(key: "api", value: 2), .init(key: "age", value: 0)])
    },
    "bwlimit": TunnelCommand(parameters: [
      .needed("storages", .texts), .optional("bwlimit", .number), .optional("operation"),
    ]) { _, arguments, reply throws(Failure) in
      reply([.init(key: "bwlimit", value: arguments["bwlimit"] ?? .null)])
    },
    "config": TunnelCommand(parameters: [.needed("conf"), .optional("firewall-config")]) {
      worker, arguments, reply throws(Failure) in
      worker.node.configureTunnelGuest(
        worker.vmid, arguments["conf"]?.tunnelText ?? "", lock: "migrate")
      worker.lock = "migrate"
      reply([])
    },
    "disk-import": TunnelCommand(parameters: [
      .needed("volname"), .needed("format"), .needed("export_formats"), .needed("storage"),
      .optional("snapshot"), .optional("migration_snapshot", .flag),
      .optional("with_snapshots", .flag), .optional("allow_rename", .flag),
    ]) { worker, arguments, reply throws(Failure) in
      if let running = worker.diskImport {
        throw Failure("disk import already running as PID '\(running.pid)'\n")
      }
      let storage = try worker.storage(arguments["storage"]?.tunnelText ?? "")
      let offered = (arguments["export_formats"]?.tunnelText ?? "").split(separator: ",")
      guard let format = offered.first.map(String.init) else {
        throw Failure("no matching import/export format found for storage '\(storage.id)'\n")
      }
      let folder = worker.kind == .qemu ? "/run/qemu-server/" : "/run/pve/ct-"
      let volume = worker.allocate(
        storage, format: arguments["format"]?.tunnelText ?? "raw",
        wanted: arguments["volname"]?.tunnelText, bytes: 0)
      let diskImport = DiskImport(
        loop: worker.node.loop, pid: worker.node.consoles.nextProcessID(),
        path: "\(folder)\(worker.vmid).storage", volume: volume)
      worker.diskImport = diskImport
      worker.open(diskImport.socket)
      reply([
        .init(key: "socket", value: .string(diskImport.socket.path)),
        .init(key: "format", value: .string(format)),
      ])
    },
    "query-disk-import": TunnelCommand(parameters: []) { worker, _, reply throws(Failure) in
      guard let diskImport = worker.diskImport else { throw Failure("no disk import running\n") }
      if case .pending = diskImport.status {
        // PVE waits five seconds for news before it says that there is none.
        var isAnswered = false
        let answer = { [weak worker] in
          guard !isAnswered, let worker else { return }
          isAnswered = true
          reply(worker.report(diskImport))
        }
        diskImport.changed = answer
        worker.node.loop.schedule(after: .seconds(5), answer)
      } else {
        reply(worker.report(diskImport))
      }
    },
    "stop": TunnelCommand(parameters: []) { worker, _, reply throws(Failure) in
      worker.node.guests[worker.vmid]?.stop()
      reply([])
    },
    "unlock": TunnelCommand(parameters: []) { worker, _, reply throws(Failure) in
      worker.node.lockTunnelGuest(worker.vmid, nil)
      worker.lock = nil
      reply([])
    },
    "ticket": TunnelCommand(parameters: [.needed("path")]) {
      worker, arguments, reply throws(Failure) in
      let path = arguments["path"]?.tunnelText ?? ""
      guard worker.sockets[path] != nil else {
        throw Failure("Not allowed to generate ticket for unknown socket '\(path)'\n")
      }
      let ticket = worker.node.tickets.tunnel(authID: worker.authID, socket: path)
      reply([.init(key: "ticket", value: .string(ticket))])
    },
    "quit": TunnelCommand(parameters: [.optional("cleanup", .flag)]) {
      worker, arguments, reply throws(Failure) in
      if arguments["cleanup"]?.tunnelFlag == true {
        for volume in worker.volumes {
          worker.log("freeing volume '\(volume)' as part of cleanup")
          worker.free(volume)
        }
        worker.node.removeTunnelGuest(worker.vmid)
        worker.lock = nil
      }
      worker.log("switching to exit-mode, waiting for client to disconnect")
      worker.isLeaving = true
      reply([])
    },
  ]

  /// Those of VMs only.
  static let machineCommands: [String: TunnelCommand] = [
    "disk": TunnelCommand(parameters: [
      .needed("format"), .needed("storage"), .needed("drive", .object),
    ]) { worker, arguments, reply throws(Failure) in
      let storage = try worker.storage(arguments["storage"]?.tunnelText ?? "")
      let size = arguments["drive"]?["size"]?.tunnelText
      let volume = worker.allocate(
        storage, format: arguments["format"]?.tunnelText ?? "raw", wanted: nil,
        bytes: size.flatMap { GuestDrive.bytes(of: $0) } ?? 0)
      worker.volumes.append(volume)
      let drive = volume + (size.map { ",size=\($0)" } ?? "")
      reply([
        .init(key: "drivestr", value: .string(drive)), .init(key: "volid", value: .string(volume)),
      ])
    },
    "start": TunnelCommand(parameters: [
      .needed("start_params", .object), .needed("migrate_opts", .object),
    ]) { worker, arguments, reply throws(Failure) in
      guard arguments["start_params"]?["statefile"] == "unix" else {
        throw Failure("migration over non-UNIX sockets not possible\n")
      }
      let base = "/run/qemu-server/\(worker.vmid)"
      worker.open(TunnelSocket(path: base + ".migrate", manner: .sink))
      var drives: [JSON.Member] = []
      if case .object(let wanted)? = arguments["migrate_opts"]?["nbd"], !wanted.isEmpty {
        worker.open(TunnelSocket(path: base + "_nbd.migrate", manner: .echo))
        drives = wanted.map { member in
          let name = "drive-" + member.key
          return .init(
            key: name,
            value: [
              "drivestr": member.value["drivestr"] ?? .string(""),
              "nbd_uri": .string("nbd:unix:\(base)_nbd.migrate:exportname=\(name)"),
            ])
        }
      }
      worker.node.guests[worker.vmid]?.start()
      let paths = worker.sockets.keys.filter { $0 != base + ".storage" }.sorted()
      reply([
        .init(
          key: "migrate",
          value: [
            "proto": "unix", "addr": .string(base + ".migrate"),
            "unix_sockets": .array(paths.map { .string($0) }),
          ]),
        .init(key: "drives", value: .object(drives)),
      ])
    },
    "nbdstop": TunnelCommand(parameters: []) { worker, _, reply throws(Failure) in
      if let socket = worker.sockets["/run/qemu-server/\(worker.vmid)_nbd.migrate"] {
        worker.close(socket)
      }
      reply([])
    },
    "resume": TunnelCommand(parameters: []) { worker, _, reply throws(Failure) in
      guard worker.node.guests[worker.vmid]?.isRunning == true else {
        throw Failure("VM \(worker.vmid) not running\n")
      }
      reply([])
    },
    "fstrim": TunnelCommand(parameters: []) { _, _, reply throws(Failure) in reply([]) },
  ]

  /// Those of containers only.
  static let containerCommands: [String: TunnelCommand] = [
    "start": TunnelCommand(parameters: []) { worker, _, reply throws(Failure) in
      worker.node.guests[worker.vmid]?.start()
      reply([])
    }
  ]
}

extension TunnelWorker {
  /// The reply about a disk's import; a finished one is forgotten with it.
  func report(_ diskImport: DiskImport) -> [JSON.Member] {
    switch diskImport.status {
    case .pending:
      diskImport.changed = nil
      return [.init(key: "status", value: "pending"), .init(key: "msg", value: .null)]
    case .complete(let volume, let bytes):
      log("disk-import: \(bytes) bytes copied", "disk-import: successfully imported '\(volume)'")
      volumes.append(volume)
      forget(diskImport)
      resize(volume, to: bytes)
      return [
        .init(key: "status", value: "complete"), .init(key: "volid", value: .string(volume)),
      ]
    case .failed(let text):
      forget(diskImport)
      free(diskImport.volume)
      return [.init(key: "status", value: "error"), .init(key: "msg", value: .string(text))]
    }
  }

  private func forget(_ diskImport: DiskImport) {
    diskImport.cancel()
    close(diskImport.socket)
    self.diskImport = nil
  }
}
