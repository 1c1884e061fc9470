import Testing

@testable import PVESimulator

extension NodeTests {
  /// Every operation of every era, called with what fits and with everything that doesn't.
  @Suite("Every operation by its schema")
  struct SchemaSweepTests {
    @Test("with valid parameters it answers what the schema promises", arguments: Era.allCases)
    func valid(era: Era) async throws {
      try await withNode({ $0.era = era }) { pve in
        // The schema is PVE 9.2's; that member came with PVE 9.
        let failures = await pve.onCluster(or: ["the node is gone"]) { Sweep($0).callAll() }
          .filter { era.major >= 9 || !$0.hasSuffix("has-dbus-vmstate is missing") }
        #expect(failures.isEmpty, "\(failures.joined(separator: "\n"))")
      }
    }

    @Test(
      "with each kind of invalid parameter it answers a 400 that names it", arguments: Era.allCases)
    func invalid(era: Era) async throws {
      try await withNode({ $0.era = era }) { pve in
        let (failures, count) = await pve.onCluster(or: (["the node is gone"], 0)) {
          Sweep($0).refuseAll()
        }
        #expect(failures.isEmpty, "\(failures.prefix(40).joined(separator: "\n"))")
        #expect(count > 5000)
      }
    }

    @Test("without a privilege it answers a 403, unless it is for all", arguments: Era.allCases)
    func forbidden(era: Era) async throws {
      try await withNode({
        $0.era = era
        $0.users.append(SimulatedUser("nobody@pve"))
      }) { pve in
        let failures = await pve.onCluster(or: ["the node is gone"]) { Sweep($0).forbidAll() }
        #expect(failures.isEmpty, "\(failures.joined(separator: "\n"))")
      }
    }

    @Test("over HTTP it is the same")
    func overHTTP() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        let listed = try await pve.call("GET", "/cluster/backup", as: token)
        #expect(listed.body == #"{"data":[]}"#)
        let refused = try await pve.call(
          "POST", "/nodes/pve1/qemu", ["vmid": "900", "net0": "bridge=vmbr0"], as: token)
        #expect(refused.status == 400)
        #expect(
          refused.json["errors"] == [
            "net0":
              "invalid format - format error\nnet0.model: property is missing and it is not optional\n"
          ])
        let twice = try await pve.call("GET", "/nodes/pve1/status?node=pve1", as: token)
        #expect(
          twice.json["errors"] == ["node": "duplicate parameter (already defined in URI)"])
      }
    }
  }
}

/// Calls every operation of a cluster, on its loop.
private struct Sweep {
  private let cluster: Cluster
  private let node: PVENode
  private let samples: SchemaSamples

  init(_ cluster: Cluster) {
    self.cluster = cluster
    node = cluster.nodes[0]
    samples = SchemaSamples(era: cluster.era)
  }

  private func perform(
    _ schema: OperationSchema, _ values: Parameters, as user: String = "root@pam"
  ) -> Result<APIResult, APIError> {
    var path = schema.path
    var rest = Parameters()
    for pair in values.pairs {
      if path.contains("{\(pair.name)}") {
        path = path.replacing("{\(pair.name)}", with: pair.value.text ?? "")
      } else {
        rest.set(pair.name, pair.value)
      }
    }
    let call = APICall(
      method: schema.method, path: path, identity: Identity(authID: user),
      parameters: rest)
    return Result { () throws(APIError) in
      var result = try node.perform(call)
      // What was written as bytes is read again.
      if case .raw(let bytes) = result.data, let tree = try? JSONReader.read(bytes) {
        result.data = tree
      }
      return result
    }
  }

  private func required(_ schema: OperationSchema) -> Parameters {
    var values = samples.required(of: schema)
    if schema.path.contains("/lxc/{vmid}") { values.set("vmid", .text("200")) }
    if schema.path.hasSuffix("}"), let name = schema.path.split(separator: "{").last?.dropLast(),
      name == "pos"
    {
      values.set("pos", .text("0"))
    }
    // A subnet is made with its network, and has an id made of that.
    if schema.method == "POST", schema.path.hasSuffix("/subnets") {
      values.set("subnet", .text("192.0.2.0/24"))
    }
    // The schema can't say that one of three is needed.
    if schema.method == "POST", schema.path.hasSuffix("/vzdump") {
      values.set("vmid", .text("102"))
    }
    return values
  }

  /// Makes what an operation is about, where something makes it.
  private func prepare(_ schema: OperationSchema, _ values: inout Parameters) {
    let parts = schema.path.split(separator: "/")
    for i in parts.indices where parts[i].hasPrefix("{") {
      let name = String(parts[i].dropFirst().dropLast())
      guard !["node", "vmid", "upid", "storage", "volume"].contains(name) else { continue }
      let parent = "/" + parts[..<i].joined(separator: "/")
      for template in [parent, parent + "/" + parts[i]] {
        guard template != schema.path || schema.method != "POST",
          let made = try? cluster.router.route("POST", template: template)?.schema
        else { continue }
        var maker = required(made)
        for pair in values.pairs where made.parameters[pair.name] != nil && pair.name != "subnet" {
          maker.set(pair.name, pair.value)
        }
        if name == "url_seq" { maker.set("seq", .text(values[name]?.text ?? "")) }
        _ = perform(made, maker)
      }
    }
    if schema.path.hasSuffix("/{subnet}"), let vnet = values["vnet"]?.text,
      let made = cluster.objects.documents(in: "/cluster/sdn/vnets/\(vnet)/subnets").first
    {
      values.set("subnet", .text(made.id))
    }
  }

  /// Errors of what doesn't fit the schema, or of an operation that isn't there.
  private func isSchemas(_ error: APIError) -> Bool {
    error.status == 501 || error.status == 403 || error.message.contains("Malformed")
      || error.fields.contains { field in
        [
          "property is", "type check", "value m", "value '", "value does not match",
          "invalid format",
        ]
        .contains { field.text.hasPrefix($0) }
      }
  }

  /// What is wrong with the answers to valid calls.
  func callAll() -> [String] {
    var failures: [String] = []
    for method in ["GET", "POST", "PUT", "DELETE"] {
      for route in cluster.router.routes where route.method == method {
        let name = "\(route.method) \(route.path)"
        let schema: OperationSchema
        do throws(APIError) {
          schema = try route.schema
        } catch {
          failures.append("\(name): \(error.message)")
          continue
        }
        var values = required(schema)
        cluster.resetObjects()
        if route.isGeneric { prepare(schema, &values) }
        switch perform(schema, values) {
        case .success(let result):
          if result.later == nil, let mismatch = schema.returns.mismatch(result.data) {
            failures.append("\(name): \(mismatch)")
          }
        case .failure(let error):
          if route.isGeneric || isSchemas(error) {
            failures.append(
              "\(name): \(error.status) \(error.message) \(error.fields.map { "\($0.name): \($0.text)" })"
            )
          }
        }
      }
    }
    return failures
  }

  /// What is let through to a user without privileges, and what isn't although it is for all.
  func forbidAll() -> [String] {
    var failures: [String] = []
    for route in cluster.router.routes {
      guard let schema = try? route.schema else { continue }
      var values = required(schema)
      // Something that the schema refuses, so that nothing is done where it is allowed.
      values.set("nonsense", .text("1"))
      let isForAll = schema.permission == .anyUser || schema.permission == .world
      guard !isForAll || !schema.allowsUnknownParameters else { continue }
      guard case .failure(let error) = perform(schema, values, as: "nobody@pve") else {
        failures.append("\(route.method) \(route.path): answered")
        continue
      }
      if (error.status == 403) == isForAll {
        failures.append("\(route.method) \(route.path): \(error.status) \(error.message)")
      }
    }
    return failures
  }

  /// What isn't refused although it should be, and how much was tried.
  func refuseAll() -> (failures: [String], count: Int) {
    var failures: [String] = []
    var count = 0
    for route in cluster.router.routes {
      guard let schema = try? route.schema else {
        failures.append("\(route.path) has no schema")
        continue
      }
      let right = required(schema)
      func expect(_ why: String, _ field: String, _ values: Parameters) {
        count += 1
        let name = "\(route.method) \(route.path), \(field) \(why)"
        switch perform(schema, values) {
        case .success: failures.append("\(name): accepted")
        case .failure(let error):
          if error.status != 400 || !error.fields.contains(where: { isAbout($0.name, field) }) {
            failures.append("\(name): \(error.status) \(error.message) \(error.fields.map(\.name))")
          }
        }
      }
      for property in schema.parameters.all {
        let isInPath = schema.path.contains("{\(property.name)}")
        if !isInPath, !property.schema.mayBeAbsent, property.schema.typeProperty == nil {
          var values = Parameters()
          for pair in right.pairs where pair.name != property.name {
            values.set(pair.name, pair.value)
          }
          expect("missing", property.name, values)
        }
        for misfit in samples.misfits(property) {
          if misfit.why.hasSuffix("family") || misfit.why == "leading zero",
            schema.allowsUnknownParameters
          {
            continue
          }
          // Another node's name is looked up first.
          if property.name == "node", schema.forwarding != .never { continue }
          if isInPath {
            // What can't be in a path, names another node, or another kind of guest.
            guard let text = misfit.value.text, !text.isEmpty,
              !text.contains(where: { $0.isWhitespace || $0 == "/" })
            else { continue }
          }
          var values = right
          values.set(misfit.name, misfit.value)
          expect(misfit.why, misfit.name, values)
        }
        if let needed = property.schema.facts.needs, right[needed] == nil {
          var values = right
          values.set(property.name, samples.value(property.schema, property.name))
          expect("without \(needed)", needed, values)
        }
      }
      if !schema.allowsUnknownParameters {
        var values = right
        values.set("nonsense", .text("1"))
        expect("unknown", "nonsense", values)
      }
    }
    return (failures, count)
  }

  private func isAbout(_ named: String, _ field: String) -> Bool {
    named == field || named.hasPrefix(field + "[") || named.hasPrefix(field + ".")
  }
}
