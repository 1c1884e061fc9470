/// `/nodes/{node}/qemu/{vmid}/agent`: the guest agent. Answers come when the agent's do.
extension PVENode {
  static let agentOperations: [Operation] =
    [
      agentOperation("GET", "") { _, _ in
        APIResult(.array(agentIndex.map { ["name": .string($0)] }))
      },
      agentOperation("POST", "") { node, arguments throws(APIError) in
        let name = arguments.text("command") ?? ""
        return try node.askAgent(arguments, agentCommands.first { $0.name == name })
      },
      agentOperation("POST", "/exec") { node, arguments throws(APIError) in
        try node.agentExec(arguments)
      },
      agentOperation("GET", "/exec-status") { node, arguments throws(APIError) in
        try node.agentExecStatus(arguments)
      },
      agentOperation("GET", "/file-read") { node, arguments throws(APIError) in
        try node.agentFileRead(arguments)
      },
      agentOperation("POST", "/file-write") { node, arguments throws(APIError) in
        try node.agentFileWrite(arguments)
      },
      agentOperation("POST", "/set-user-password") { node, arguments throws(APIError) in
        try node.agentSetPassword(arguments)
      },
    ]
    + agentCommands.map { command in
      agentOperation(command.method, "/" + command.name) { node, arguments throws(APIError) in
        try node.askAgent(arguments, command)
      }
    }

  private static func agentOperation(
    _ method: String, _ path: String, _ handler: @escaping Operation.Handler
  ) -> Operation {
    Operation(method, "/nodes/{node}/qemu/{vmid}/agent" + path, handler)
  }

  /// What the index lists, in its order.
  private static let agentIndex = [
    "exec", "exec-status", "file-read", "file-write", "fsfreeze-freeze", "fsfreeze-status",
    "fsfreeze-thaw", "fstrim", "get-fsinfo", "get-host-name", "get-memory-block-info",
    "get-memory-blocks", "get-osinfo", "get-time", "get-timezone", "get-users", "get-vcpus",
    "info", "network-get-interfaces", "ping", "set-user-password", "shutdown", "suspend-disk",
    "suspend-hybrid", "suspend-ram",
  ]

  /// A command that the API passes on as it is.
  struct AgentCommand: Sendable {
    var method: String
    var name: String
  }

  static let agentCommands: [AgentCommand] =
    [
      "get-time", "info", "network-get-interfaces", "get-vcpus", "get-fsinfo",
      "get-memory-blocks", "get-memory-block-info", "get-host-name", "get-osinfo", "get-users",
      "get-timezone",
    ].map { AgentCommand(method: "GET", name: $0) }
    + [
      "ping", "fsfreeze-status", "fsfreeze-freeze", "fsfreeze-thaw", "fstrim", "suspend-hybrid",
      "suspend-ram", "suspend-disk", "shutdown",
    ].map { AgentCommand(method: "POST", name: $0) }

  // MARK: calls

  /// A one-word command: an error of the agent's is a good answer here.
  private func askAgent(_ arguments: Arguments, _ command: AgentCommand?) throws(APIError)
    -> APIResult
  {
    guard let command else { throw .died("unknown agent command") }
    let call = AgentCall(self, try agentGuest(arguments))
    return .later { done in
      call.ask("guest-" + command.name) { outcome in
        switch outcome {
        case .success(.value(let value)): done(.success(APIResult(["result": value])))
        case .success(.refused(let kind, let text)):
          let error: JSON = ["class": .string(kind), "desc": .string(text)]
          done(.success(APIResult(["result": ["error": error]])))
        case .success: done(.failure(.died("internal error")))
        case .failure(let error): done(.failure(error))
        }
      }
    }
  }

  private func agentExec(_ arguments: Arguments) throws(APIError) -> APIResult {
    let words = agentWords(arguments.values["command"])
    let input = arguments.text("input-data")
    guard input != nil || !words.isEmpty else {
      throw .died("command or input-data (or both) required")
    }
    var members: [JSON.Member] = [
      .init(key: "path", value: words.first.map { .string($0) } ?? .null),
      .init(key: "arg", value: .array(words.dropFirst().map { .string($0) })),
      .init(key: "capture-output", value: .bool(true)),
    ]
    if let input {
      members.append(.init(key: "input-data", value: .string(try AgentBytes.encode(input))))
    }
    let call = AgentCall(self, try agentGuest(arguments))
    return .later { done in
      call.perform("guest-exec", .object(members), done) { value in
        APIResult(["pid": value["pid"] ?? 0])
      }
    }
  }

  /// An array; in PVE 7 a list in a text, split at NUL bytes, or else at spaces, commas and semicolons. Perl's split
  /// drops empty fields at the end.
  private func agentWords(_ value: ParameterValue?) -> [String] {
    switch value {
    case .list(let items): return items.compactMap(\.text)
    case .text(let text) where era.agentCommandIsArray: return [text]
    case .text(let text) where text.utf8.contains(0):
      var words = text.split(separator: "\0", omittingEmptySubsequences: false)
      while words.last?.isEmpty == true { words.removeLast() }
      return words.map(String.init)
    case .text(let text):
      return text.split { " \t\n,;".contains($0) }.map(String.init)
    default: return []
    }
  }

  private func agentExecStatus(_ arguments: Arguments) throws(APIError) -> APIResult {
    let call = AgentCall(self, try agentGuest(arguments))
    let flags = behaviour.agentTruncation
    return .later { done in
      call.perform(
        "guest-exec-status", ["pid": .int(arguments.integer("pid") ?? 0)], done
      ) { value in
        guard case .object(let members) = value else { return APIResult(value) }
        return APIResult(
          .object(
            members.compactMap { member in
              switch (member.key, member.value) {
              case ("out-data", .string(let text)), ("err-data", .string(let text)):
                return .init(key: member.key, value: .string(AgentBytes.decode(text)))
              case ("out-truncated", .bool(let cut)), ("err-truncated", .bool(let cut)):
                if !cut, flags == .whenTruncated { return nil }
                return .init(key: member.key, value: .flag(cut))
              case (_, .bool(let flag)): return .init(key: member.key, value: .flag(flag))
              default: return member
              }
            }))
      }
    }
  }

  private func agentFileRead(_ arguments: Arguments) throws(APIError) -> APIResult {
    let call = AgentCall(self, try agentGuest(arguments))
    let reading = AgentFileRead(
      call, file: arguments.text("file") ?? "", offset: arguments.integer("offset") ?? 0,
      count: arguments.integer("count"), decodes: arguments.text("decode") != "0")
    return .later { reading.begin($0) }
  }

  private func agentFileWrite(_ arguments: Arguments) throws(APIError) -> APIResult {
    let content = arguments.text("content") ?? ""
    let encoded = arguments.text("encode") == "0" ? content : try AgentBytes.encode(content)
    let call = AgentCall(self, try agentGuest(arguments))
    let open: JSON = ["path": .string(arguments.text("file") ?? ""), "mode": "wb"]
    return .later { done in
      call.perform("guest-file-open", open) { opened in
        guard case .success(let handle) = opened else { return done(opened.failed) }
        call.perform(
          "guest-file-write", ["handle": handle, "buf-b64": .string(encoded)]
        ) { written in
          guard case .success = written else { return done(written.failed) }
          call.perform("guest-file-close", ["handle": handle], done) { _ in APIResult(.null) }
        }
      }
    }
  }

  private func agentSetPassword(_ arguments: Arguments) throws(APIError) -> APIResult {
    let isCrypted = arguments.flag("crypted")
    let password = base64(Array((arguments.text("password") ?? "").utf8))
    let call = AgentCall(self, try agentGuest(arguments))
    return .later { done in
      call.perform(
        "guest-set-user-password",
        [
          "username": .string(arguments.text("username") ?? ""), "password": .string(password),
          "crypted": .bool(isCrypted),
        ], done
      ) { APIResult(["result": $0]) }
    }
  }

  private func agentGuest(_ arguments: Arguments) throws(APIError) -> Guest {
    let guest = try guest(arguments, .qemu)
    guard guest.hasAgentLine else { throw .died("No QEMU guest agent configured") }
    guard guest.isRunning else { throw .died("VM \(arguments.vmid) is not running") }
    return guest
  }
}

extension Result where Success == JSON, Failure == APIError {
  /// The failure, as the API's answer.
  var failed: Result<APIResult, APIError> {
    switch self {
    case .success(let value): .success(APIResult(value))
    case .failure(let error): .failure(error)
    }
  }
}
