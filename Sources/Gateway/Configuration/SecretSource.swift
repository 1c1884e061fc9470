import ConsoleProtocol
import Glibc

/// Where a secret is. Never the file of the configuration itself.
enum SecretSource: Sendable {
  /// The content of a file.
  case file(String)
  /// An environment variable, by its name.
  case environment(String)
  /// The value itself, as an environment variable of ours brought it.
  case value(Secret)

  /// Reads the two keys that name a secret's place; nil where neither is there.
  static func read<Key>(
    _ fields: StrictFields<Key>, file: Key, environment: Key
  ) throws -> SecretSource? {
    let path: String? = try fields.read(file, "a file's path")
    let name: String? = try fields.read(environment, "an environment variable's name")
    switch (path, name) {
    case (nil, nil): return nil
    case (let path?, nil): return .file(path)
    case (nil, let name?): return .environment(name)
    default:
      throw ConfigurationError(
        fields.field(file), "is given together with \(environment.stringValue)",
        remedy: "Keep one of the two")
    }
  }
}

/// Reads secrets for a configuration and notes what is unwise about where they are.
struct SecretReader {
  let environment: [String: String]
  /// Relative paths are relative to this folder: that of the configuration file.
  let folder: String?
  private(set) var warnings: [String] = []

  init(environment: [String: String], folder: String?) {
    self.environment = environment
    self.folder = folder
  }

  /// Notes what is allowed but unwise.
  mutating func note(_ warning: String) { warnings.append(warning) }

  /// The secret, without the line end that editors put behind it.
  mutating func read(_ source: SecretSource, field: String) throws(ConfigurationError) -> Secret {
    switch source {
    case .value(let secret):
      guard !secret.isEmpty else { throw ConfigurationError(field, "is empty") }
      return secret
    case .environment(let name):
      guard let value = environment[name] else {
        throw ConfigurationError(
          field, "the environment variable \(name) is not set",
          remedy: "Set it where Sallyport is started")
      }
      let text = Self.trimmed(value)
      guard !text.isEmpty else {
        throw ConfigurationError(field, "the environment variable \(name) is empty")
      }
      return Secret(text)
    case .file(let path):
      let full = resolve(path)
      let bytes = try Self.bytes(of: full, field: field)
      var status = stat()
      if stat(full, &status) == 0, status.st_mode & S_IROTH != 0 {
        warnings.append(
          "\(field): every user of this machine can read the secret in '\(full)'; chmod 600 it")
      }
      let text = Self.trimmed(String(decoding: bytes, as: UTF8.self))
      guard !text.isEmpty else {
        throw ConfigurationError(
          field, "the file '\(full)' is empty", remedy: "Write the secret into it, on one line")
      }
      guard text.utf8.allSatisfy({ $0 >= 32 && $0 != 127 }) else {
        throw ConfigurationError(
          field, "the file '\(full)' has more than one line or holds control characters",
          remedy: "Write the secret into it, on one line")
      }
      return Secret(text)
    }
  }

  /// A path of the configuration, made absolute.
  func resolve(_ path: String) -> String {
    guard !path.hasPrefix("/"), let folder, !folder.isEmpty else { return path }
    return folder + "/" + path
  }

  /// Fails with the system's words where a file can't be read.
  func mustBeReadable(_ path: String, field: String) throws(ConfigurationError) -> String {
    let full = resolve(path)
    guard access(full, R_OK) == 0 else {
      throw ConfigurationError(
        field, "the file '\(full)' can't be read: \(String(cString: strerror(errno)))")
    }
    return full
  }

  private static func bytes(of path: String, field: String) throws(ConfigurationError) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw ConfigurationError(
        field, "the file '\(path)' can't be read: \(String(cString: strerror(errno)))")
    }
    defer { close(descriptor) }
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    var used = 0
    while used < buffer.count {
      let start = used
      let n = buffer.withUnsafeMutableBytes { room in
        Glibc.read(descriptor, room.baseAddress.map { $0 + start }, room.count - start)
      }
      guard n >= 0 else {
        throw ConfigurationError(
          field, "the file '\(path)' can't be read: \(String(cString: strerror(errno)))")
      }
      if n == 0 { return Array(buffer[..<used]) }
      used += n
    }
    throw ConfigurationError(field, "the file '\(path)' is too large for a secret (64 KiB)")
  }

  private static func trimmed(_ text: String) -> String {
    var text = Substring(text)
    while let last = text.last, last == "\n" || last == "\r\n" || last == "\r" { text.removeLast() }
    return String(text)
  }
}
