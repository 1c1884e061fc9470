import ConsoleProtocol

/// One side of a copy.
enum CopyEndpoint: Equatable {
  /// A path of this machine.
  case local(String)
  /// Standard input or output.
  case stream
  /// An absolute path in a target; the target as it was written.
  case remote(target: String, path: String)

  /// Reads `TARGET:/path`, `-` or a local path. What begins with / or . is local, so that a local name with a colon can
  /// be written `./a:b`.
  init(_ text: String) throws(Failure) {
    if text == "-" {
      self = .stream
      return
    }
    guard !text.isEmpty else { throw .usage("A path is empty.") }
    if text.hasPrefix("/") || text.hasPrefix(".") || !text.contains(":") {
      self = .local(text)
      return
    }
    let characters = Array(text)
    var at: Int?
    for i in characters.indices.dropLast() where characters[i] == ":" && characters[i + 1] == "/" {
      at = i
      break
    }
    guard let at, at > 0 else {
      throw .usage(
        "'\(text)' is no path in a target.",
        remedy: "A target's path is absolute: web1:/etc/hosts. A local name with a colon is "
          + "written with ./ in front.")
    }
    self = .remote(target: String(characters[..<at]), path: String(characters[(at + 1)...]))
  }

  /// For the person.
  var shown: String {
    switch self {
    case .local(let path): path
    case .stream: "-"
    case .remote(let target, let path): "\(target):\(path)"
    }
  }
}
