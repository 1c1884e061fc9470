/// Where a path points inside the API: `/api2/json/nodes` is `/nodes` in the format `json`.
struct APIAddress: Sendable {
  /// `json`, `extjs` …: lower-case letters and digits.
  let format: String
  /// As sent, at least a slash.
  let path: String

  /// Whether pveproxy takes a path for one of the API, well formed or not.
  static func isClaimed(_ path: String) -> Bool { path.hasPrefix("/api2") }

  /// Nil for a path that names no format.
  init?(_ path: String) {
    guard path.hasPrefix("/api2/") else { return nil }
    let rest = path.utf8.dropFirst(6).drop { $0 == UInt8(ascii: "/") }
    let name = rest.prefix { $0 != UInt8(ascii: "/") }
    guard name.count >= 2, let first = name.first, (97...122).contains(first),
      name.allSatisfy({ (97...122).contains($0) || (48...57).contains($0) })
    else { return nil }
    format = String(Substring(name))
    let tail = rest.dropFirst(name.count)
    self.path = tail.isEmpty ? "/" : String(Substring(tail))
  }

  /// The storage to which a request uploads a file: such a request's body is read piece by piece, and its
  /// privilege is checked before.
  func uploadStorage(method: String) -> String? {
    guard method == "POST" else { return nil }
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 6, parts[0].isEmpty, parts[1] == "nodes", !parts[2].isEmpty,
      parts[3] == "storage", !parts[4].isEmpty, parts[5] == "upload"
    else { return nil }
    return String(parts[4])
  }
}
