/// Why a state file can't be used. Each is one line, and the file is as it was before.
enum StateFailure: Error, CustomStringConvertible {
  /// It isn't a regular file.
  case notAFile(String, what: String)
  /// It is something else's file.
  case foreign(String, what: String)
  /// It is ours, from a later version.
  case tooNew(String, version: Int)
  /// It is ours and can't be trusted any more.
  case damaged(String, why: String)
  /// Another simulator uses it.
  case inUse(String)
  /// It can't be read or written.
  case system(String, why: String)
  /// It was made with other options.
  case mismatch(String, why: String)

  var description: String {
    switch self {
    case .notAFile(let path, let what): "\(path) is \(what), not a file"
    case .foreign(let path, let what): "\(path) is no state of a simulated node: \(what)"
    case .tooNew(let path, let version):
      "\(path) was written by a later version of this program (its format is \(version))"
    case .damaged(let path, let why): "\(path) is damaged: \(why)"
    case .inUse(let path): "\(path) is in use by another simulated node"
    case .system(let path, let why): "\(path) can't be used: \(why)"
    case .mismatch(let path, let why): "\(path) doesn't fit: \(why)"
    }
  }
}
