/// What kinds of documents the simulated cluster's durable state is made of.
enum StateKind: String, CaseIterable {
  /// The cluster's identity: keys, certificates, seed.
  case meta
  /// Users, groups, roles, ACL, tokens, realms, second factors.
  case access
  /// A VM or container, by vmid.
  case guest
  /// A pool.
  case pool
  /// A storage's definition.
  case storage
  /// A volume on a storage.
  case volume
  /// A task that has ended.
  case task
  /// Whatever the generic operations keep.
  case object
}
