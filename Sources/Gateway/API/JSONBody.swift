import ConsoleProtocol
import EventLoop
import ProxmoxClient

/// The fields of a request's JSON body, read strictly: an unknown field or one of another type is refused by name.
struct JSONBody {
  private let fields: [String: JSONValue]

  /// Reads the body of a request.
  /// - Parameter known: the fields that mean something.
  init(_ request: HTTPRequest, known: [String]) throws(Problem) {
    let type = request.headers["content-type"] ?? ""
    let media = type.prefix { $0 != ";" && $0 != " " }.lowercased()
    guard media == "application/json" else {
      throw Problem(
        415, "unsupported-media-type",
        media.isEmpty
          ? "The request has no Content-Type."
          : "The body's type '\(media.prefix(80))' is not taken.",
        remedy: "Send the body as Content-Type: application/json.")
    }
    let value: JSONValue
    do throws(JSONParser.Failure) {
      value = try JSONParser.parse(request.body)
    } catch {
      throw Problem(
        400, "bad-json", "The body is no JSON: \(error).",
        remedy: "Send one JSON object, e.g. {\"target\":\"qemu/100\"}.")
    }
    guard let object = value.object else {
      throw Problem(
        400, "bad-json", "The body is JSON, but no object.",
        remedy: "Send one JSON object, e.g. {\"target\":\"qemu/100\"}.")
    }
    for name in object.keys.sorted() where !known.contains(name) {
      throw Problem(
        400, "unknown-field", "The field '\(name.prefix(80))' is not known here.",
        field: String(name.prefix(80)), remedy: "Known fields: \(known.joined(separator: ", ")).")
    }
    fields = object
  }

  /// A text; nil where there is none.
  func string(_ name: String) throws(Problem) -> String? {
    switch fields[name] ?? .null {
    case .null: return nil
    case .string(let text): return text
    default: throw Self.wrong(name, "a text")
    }
  }

  /// Whatever there is; null where there is nothing.
  func value(_ name: String) -> JSONValue { fields[name] ?? .null }

  /// A whole number within bounds; nil where there is none.
  func int(_ name: String, _ range: ClosedRange<Int>) throws(Problem) -> Int? {
    let number: Int
    switch fields[name] ?? .null {
    case .null: return nil
    case .int(let n): number = n
    default: throw Self.wrong(name, "a whole number")
    }
    guard range.contains(number) else {
      throw Problem(
        422, "out-of-range", "'\(name)' is \(number).", field: name,
        remedy: "It takes a number from \(range.lowerBound) to \(range.upperBound).")
    }
    return number
  }

  /// A list of texts; nil where there is none.
  func strings(_ name: String) throws(Problem) -> [String]? {
    switch fields[name] ?? .null {
    case .null: return nil
    case .array(let items):
      var out: [String] = []
      for item in items {
        guard case .string(let text) = item else { throw Self.wrong(name, "a list of texts") }
        out.append(text)
      }
      return out
    default: throw Self.wrong(name, "a list of texts")
    }
  }

  /// Texts by name; nil where there is none.
  func texts(_ name: String) throws(Problem) -> [String: String]? {
    switch fields[name] ?? .null {
    case .null: return nil
    case .object(let items):
      var out: [String: String] = [:]
      for (key, item) in items {
        guard case .string(let text) = item else {
          throw Self.wrong(name, "an object of texts such as {\"A\":\"1\"}")
        }
        out[key] = text
      }
      return out
    default: throw Self.wrong(name, "an object of texts such as {\"A\":\"1\"}")
    }
  }

  /// A truth value; nil where there is none.
  func bool(_ name: String) throws(Problem) -> Bool? {
    switch fields[name] ?? .null {
    case .null: return nil
    case .bool(let value): return value
    default: throw Self.wrong(name, "true or false")
    }
  }

  /// A number of seconds above zero and no larger than `most`; nil where there is none.
  func seconds(_ name: String, most: Duration) throws(Problem) -> Duration? {
    let value: Double
    switch fields[name] ?? .null {
    case .null: return nil
    case .int(let n): value = Double(n)
    case .double(let d): value = d
    default: throw Self.wrong(name, "a number of seconds")
    }
    let limit = most.seconds
    guard value > 0, value <= limit else {
      throw Problem(
        422, "out-of-range",
        "'\(name)' is \(Self.text(value)); it may be up to \(Self.text(limit)) seconds.",
        field: name, remedy: "Ask for more than zero and at most \(Self.text(limit)) seconds.")
    }
    return .milliseconds(Int((value * 1000).rounded(.up)))
  }

  private static func text(_ value: Double) -> String {
    Int(exactly: value).map(String.init) ?? String(value)
  }

  static func wrong(_ name: String, _ shape: String) -> Problem {
    Problem(
      400, "wrong-type", "'\(name)' is not \(shape).", field: name, remedy: "Send \(shape).")
  }
}

extension Duration {
  /// Seconds with their fraction.
  var seconds: Double {
    let (whole, atto) = components
    return Double(whole) + Double(atto) / 1e18
  }
}
