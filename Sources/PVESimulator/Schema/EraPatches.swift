/// What the table doesn't know about older eras: it is PVE 9.2's schema, and of the other versions only which
/// operations they have.
enum EraPatches {
  /// Operations that PVE 9.2 no longer has, and the root, in the table's spelling.
  static let additions: StaticString = ##"""
    GET /	1f	-	all	[{subdir:s}]
    POST /access/tfa	01	pt	all	{ticket:s}	response	s	;
    GET /nodes/{node}/ceph/config	01	pn	/=Sys.Audit|Datastore.Audit	s	node	s	%pve-node	;
    GET /nodes/{node}/ceph/configdb	01	pn	/=Sys.Audit|Datastore.Audit	[{section:s,name:s,value:s,level:s,can_update_at_runtime:b,mask:s}]	node	s	%pve-node	;
    GET /nodes/{node}/ceph/pools	01	pn	/=Sys.Audit|Datastore.Audit	[{pool:i,pool_name:s,size:i,min_size:i,pg_num:i}]	node	s	%pve-node	;
    POST /nodes/{node}/ceph/pools	01	pn	/=Sys.Modify	s	name	s	~(?^:^[^:/\s]+$)	;	node	s	%pve-node	;	size	i?	<1	>7	=3	;	min_size	i?	<1	>7	=2	;	pg_num	i?	<1	>32768	=128	;	application	s?	|rbd|cephfs|rgw	;	add_storages	b?	;
    GET /nodes/{node}/ceph/pools/{name}	01	pn	/=Sys.Audit|Datastore.Audit	{name:s,size:i,min_size:i,pg_num:i}	name	s	;	node	s	%pve-node	;	verbose	b?	=0	;
    PUT /nodes/{node}/ceph/pools/{name}	01	pn	/=Sys.Modify	s	name	s	~(?^:^[^:/\s]+$)	;	node	s	%pve-node	;	size	i?	<1	>7	;	min_size	i?	<1	>7	;	pg_num	i?	<1	>32768	;	application	s?	|rbd|cephfs|rgw	;
    DELETE /nodes/{node}/ceph/pools/{name}	01	pn	/=Sys.Modify	s	name	s	;	node	s	%pve-node	;	force	b?	=0	;	remove_storages	b?	=0	;
    GET /nodes/{node}/scan/glusterfs	03	pn	/storage=Datastore.Allocate	[{volname:s}]	node	s	%pve-node	;	server	s	%pve-storage-server	;
    """##

  /// Whether an era has an operation that the list of operations gives its whole series.
  static func exists(_ method: String, _ path: String, in era: Era) -> Bool {
    path != "/access/vncticket" || era.hasConsoleTicketCheck
  }

  /// Changes what the table says to what it was in an era.
  static func apply(to schema: inout OperationSchema, era: Era) throws(SchemaReader.Malformed) {
    let vm = "/nodes/{node}/qemu/{vmid}"
    if !era.hasAgentPrivileges {
      let isAgents = schema.path == vm + "/agent" || schema.path.hasPrefix(vm + "/agent/")
      if isAgents && schema.method == "POST" || schema.path == vm + "/monitor"
        || schema.permission.names(prefix: "VM.GuestAgent.")
      {
        schema.permission = .privileges(["VM.Monitor"], on: "/vms/{vmid}")
      }
    }
    switch schema.path {
    case vm + "/agent/exec" where !era.agentCommandIsArray:
      // A text, and absent where only input is sent to the last program.
      schema.parameters = schema.parameters.mapping { name, facts in
        if name == "command" { facts.isOptional = true }
      }
    case vm + "/agent/file-read" where !era.agentReadsRanges:
      schema.parameters = schema.parameters.without(["count", "offset", "decode"])
    case "/nodes/{node}/execute" where !era.executeNeedsRoot:
      schema.permission = .privileges(["Sys.Audit"], on: "/nodes/{node}")
    case "/access/vncticket" where !era.consoleTicketCheckIsFull:
      schema.parameters = schema.parameters.without(["port"])
    case "/access/password" where !era.passwordChangesNeedConfirmation:
      schema.parameters = schema.parameters.without(["confirmation-password"])
    default: break
    }
    if schema.path == "/access" || schema.path.hasPrefix("/access/") {
      applyAccess(to: &schema, era: era)
    }
    if !era.formArrays { schema.parameters = schema.parameters.withoutArrays() }
  }

  /// What libpve-access-control changed.
  private static func applyAccess(to schema: inout OperationSchema, era: Era) {
    if schema.method == "GET", schema.path.hasPrefix("/access/tfa"), !era.tokensReadSecondFactors {
      schema.allowsTokens = false
    }
    schema.parameters = schema.parameters.mapping { name, facts in
      if name == "password", facts.minimumLength == 8 { facts.minimumLength = era.shortestPassword }
      if case .text(var format)? = facts.format, format.name == "pve-priv" {
        format.check = { Privilege($0, in: era) == nil ? "invalid privilege '\($0)'" : nil }
        facts.format = .text(format)
      }
    }
  }
}

extension Permission {
  /// Whether the expression asks for a privilege whose name starts like this.
  fileprivate func names(prefix: String) -> Bool {
    switch self {
    case .privileges(let names, _, _), .oneOf(let names, _, _), .inGroups(let names, _):
      names.contains { $0.hasPrefix(prefix) }
    case .all(let parts), .either(let parts): parts.contains { $0.names(prefix: prefix) }
    case .world, .anyUser, .rootOnly, .modifiesPermissions, .isSelf, .allocatesUser: false
    }
  }
}

extension PropertySchemas {
  fileprivate func mapping(_ change: (String, inout Schema.Facts) -> Void) -> PropertySchemas {
    PropertySchemas(
      all.map { property in
        var facts = property.schema.facts
        change(property.name, &facts)
        return Property(property.name, Schema(facts))
      })
  }

  fileprivate func without(_ names: Set<String>) -> PropertySchemas {
    PropertySchemas(all.filter { !names.contains($0.name) })
  }

  /// Arrays as PVE 7 has them: texts with lists.
  fileprivate func withoutArrays() -> PropertySchemas {
    guard all.contains(where: { $0.schema.kind == .array }) else { return self }
    return mapping { _, facts in
      guard facts.kind == .array else { return }
      facts.kind = .string
      if case .text(var format)? = facts.items?.format {
        format.repetition = .list
        facts.format = .text(format)
      }
      facts.items = nil
      facts.variants = []
      facts.typeProperty = nil
    }
  }
}
