/// The cluster in its state file.
extension Cluster {
  /// Begins to keep the cluster in a file: puts back what the file holds, or writes everything down where it is new.
  func keep(in state: OpenedState, as identity: ClusterIdentity) throws(SimulatorError) {
    let store = StateStore(loop: loop, file: state.file, thread: state.thread)
    self.identity = identity
    if state.identity == nil {
      self.store = store
      saveEverything()
    } else {
      try restore(state)
      self.store = store
      save(.meta, ClusterIdentity.id, identity.document)
      applyConfiguredSecrets()
    }
  }

  /// Where a part of the access control stands as it was at the first start.
  private func startID(_ part: AccessControl.Part) -> String { "start-\(part.rawValue)" }

  /// Puts back what a file holds.
  private func restore(_ state: OpenedState) throws(SimulatorError) {
    // First as it was at the first start, for a reset: its passwords are not those that were just made up.
    for part in AccessControl.Part.allCases {
      guard let document = state.one(.meta, startID(part)) else { continue }
      try access.restore(part, from: document)
    }
    initialAccess = access.contents
    for part in AccessControl.Part.allCases {
      guard let document = state.one(.access, part.rawValue) else { continue }
      try access.restore(part, from: document)
    }
    restoreInventory(state.documents)
    // A real machine of this start is there, whether it was or not when the file was made.
    for about in configuration.guests where about.machine != nil && guests[about.vmid] == nil {
      guard let node = about.node.flatMap({ self.node(named: $0) }) ?? nodes.first else { continue }
      guests[about.vmid] = Guest(about, node: node)
    }
    access.changed()
    for object in state.all(.object) { objects.restore(key: object.id, object.document) }
    if let keys = state.one(.meta, "authkeys"), !tickets.restore(from: keys) {
      throw .state("\(state.file.path) is damaged: its signing keys can't be read")
    }
  }

  /// What was asked for with this start wins over what the file holds.
  private func applyConfiguredSecrets() {
    if let password = configuration.rootPassword, access.users["root@pam"]?.password != password {
      access.users["root@pam"]?.password = password
      access.changed(.users)
    }
    if let secret = configuration.tokenSecret,
      let token = access.users["root@pam"]?.tokens["sallyport"], token.secret != secret
    {
      access.users["root@pam"]?.tokens["sallyport"]?.secret = secret
      access.changed(.tokens)
    }
  }

  /// Writes everything down as it is at a start. What the file held before is forgotten first.
  func saveEverything() {
    guard let store, let identity else { return }
    store.eraseAll()
    save(.meta, ClusterIdentity.id, identity.document)
    for part in AccessControl.Part.allCases {
      let document = access.document(part)
      save(.meta, startID(part), document)
      save(.access, part.rawValue, document)
    }
    saveInventory()
    // The first ticket makes the keys, and has them kept.
    if tickets.hasKeys { tickets.persist() }
  }
}
