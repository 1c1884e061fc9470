/// What changes about users, permissions and second factors between versions of libpve-access-control.
extension Era {
  /// Whether `PVEAdmin` and `PVESysAdmin` hold `Permissions.Modify`; since 8.0.0 `Administrator` alone does.
  var adminsModifyPermissions: Bool { major < 8 }

  /// Whether somebody without `Permissions.Modify` (who may change a guest's ACL by `VM.Allocate`, say) can hand out
  /// roles with more privileges than their own; not since 8.0.0.
  var grantsMayExceedOwn: Bool { major < 8 }

  /// Whether names of roles that begin with `PVE` are PVE's own (8.0.0).
  var reservesRoleNames: Bool { major >= 8 }

  /// Whether wrong second factors lock TOTP, and in the end the account's second factors, and whether a TOTP code is
  /// good once only (8.0.0; before, the cluster's file could not hold either).
  var locksSecondFactors: Bool { major >= 8 }

  /// Whether API tokens may read second factors (8.0.2).
  var tokensReadSecondFactors: Bool { major >= 8 }

  /// Whether changing a password takes the current one, `confirmation-password` (8.1.3).
  var passwordChangesNeedConfirmation: Bool { major >= 8 }

  /// The shortest new password: 8 characters since 8.2.0.
  var shortestPassword: Int { major >= 8 ? 8 : 5 }

  /// Whether everybody may ask for their own permissions and their tokens' by name (8.2.0).
  var ownPermissionsAreReadable: Bool { major >= 8 }

  /// Whether pools may be in pools, three levels deep (8.0.7).
  var poolsNest: Bool { major >= 8 }

  /// Whether `cap` has `mapping`, and `Sys.Modify` in `dc` (8.0.0).
  var capabilitiesKnowMappings: Bool { major >= 8 }
}
