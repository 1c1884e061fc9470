/// Reads the keys of one mapping of a configuration file. A key that isn't known is an error that lists those that
/// are, and a value of another kind is an error that says which kind is taken.
struct StrictFields<Key: CodingKey & CaseIterable> {
  private let container: KeyedDecodingContainer<Key>
  private let path: String

  /// Checks the mapping's keys.
  init(_ decoder: any Decoder, keys: Key.Type = Key.self) throws {
    path = Self.text(decoder.codingPath)
    let known = Key.allCases.map(\.stringValue)
    let all: KeyedDecodingContainer<AnyKey>
    do {
      all = try decoder.container(keyedBy: AnyKey.self)
      container = try decoder.container(keyedBy: Key.self)
    } catch {
      throw ConfigurationError(
        path, path.isEmpty ? "the file is no mapping of keys" : "is no mapping of keys",
        remedy: "Known keys here: \(known.joined(separator: ", "))")
    }
    for key in all.allKeys where !known.contains(key.stringValue) {
      throw ConfigurationError(
        Self.join(path, key.stringValue), "is not a known key",
        remedy: "Known keys here: \(known.joined(separator: ", "))")
    }
  }

  /// A key's value; nil where the key is absent or has no value.
  /// - Parameter shape: what is taken, as the end of the sentence "It takes …".
  func read<T: Decodable>(_ key: Key, _ shape: String, as type: T.Type = T.self) throws -> T? {
    do {
      return try container.decodeIfPresent(type, forKey: key)
    } catch let error as ConfigurationError {
      throw error
    } catch DecodingError.dataCorrupted(let context)
      where context.underlyingError is ConfigurationError
    {
      throw context.underlyingError ?? ConfigurationError(field(key), "can't be read")
    } catch {
      throw ConfigurationError(
        field(key), "has a value of another kind", remedy: "It takes \(shape)")
    }
  }

  /// The path of a key, for an error.
  func field(_ key: Key) -> String { Self.join(path, key.stringValue) }

  private static func join(_ path: String, _ key: String) -> String {
    path.isEmpty ? key : "\(path).\(key)"
  }

  private static func text(_ path: [any CodingKey]) -> String {
    var out = ""
    for key in path {
      if let index = key.intValue {
        out += "[\(index)]"
      } else {
        out = join(out, key.stringValue)
      }
    }
    return out
  }
}

/// Any key at all, to see those that nobody knows.
private struct AnyKey: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }
  init?(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { stringValue = String(intValue) }
}
