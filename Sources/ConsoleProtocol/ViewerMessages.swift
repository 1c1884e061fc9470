/// A text frame from the gateway to the viewer: a JSON object each.
package enum GatewayMessage: Sendable, Equatable {
  /// Where an attempt is before the console is open.
  package enum Progress: String, Sendable, Equatable {
    case minting, dialling, login
  }

  /// What a notice is about.
  package enum Notice: String, Sendable, Equatable {
    case idleWarning = "idle-warning"
    case maxDurationWarning = "max-duration-warning"
  }

  /// The console is open; binary frames follow.
  case ready(
    session: String, target: String, node: String, name: String?, console: Console, readOnly: Bool)
  /// Not yet open. Says for what the link is, so that a page can name it (and offer another try) even if it fails.
  case stage(Progress, target: String? = nil, console: Console? = nil)
  /// The answer to the viewer's ping.
  case pong(id: Int64)
  /// It will end in so many seconds.
  case notice(Notice, seconds: Int)
  /// It ended; the websocket is closed right after.
  case ended(Ending)

  /// The frame's text.
  package var json: String {
    switch self {
    case .ready(let session, let target, let node, let name, let console, let readOnly):
      var out = FlatJSONWriter(type: "ready")
      out.add("session", session)
      out.add("target", target)
      out.add("node", node)
      if let name { out.add("name", name) }
      out.add("console", console.description)
      out.add("readOnly", readOnly)
      return out.json
    case .stage(let stage, let target, let console):
      var out = FlatJSONWriter(type: "stage")
      out.add("stage", stage.rawValue)
      if let target { out.add("target", target) }
      if let console { out.add("console", console.description) }
      return out.json
    case .pong(let id):
      var out = FlatJSONWriter(type: "pong")
      out.add("id", id)
      return out.json
    case .notice(let kind, let seconds):
      var out = FlatJSONWriter(type: "notice")
      out.add("kind", kind.rawValue)
      out.add("seconds", Int64(seconds))
      return out.json
    case .ended(let ending):
      var out = FlatJSONWriter(type: "ended")
      out.add("hop", ending.hop.rawValue)
      out.add("kind", ending.kind.rawValue)
      out.add("sentence", ending.sentence)
      out.add("remedy", ending.remedy)
      out.add("details", ending.details)
      out.add("code", Int64(ending.kind.closeCode))
      return out.json
    }
  }
}

/// A text frame from the viewer.
package enum ViewerMessage: Sendable, Equatable {
  /// The first one: who may see what.
  package struct Open: Sendable, Equatable {
    /// The link's token.
    package var token: Secret
    /// The window's size; nil where the viewer has none (screens).
    package var size: TerminalSize?
    /// The viewer will acknowledge terminal bytes.
    package var acks: Bool
    /// The viewer wants JSON text frames on screens too.
    package var notices: Bool

    /// Puts the parts together.
    package init(token: Secret, size: TerminalSize?, acks: Bool, notices: Bool) {
      self.token = token
      self.size = size
      self.acks = acks
      self.notices = notices
    }
  }

  /// Opens the session; only valid first.
  case open(Open)
  /// The window's size changed.
  case resize(TerminalSize)
  /// So many bytes since `ready` are consumed.
  case ack(bytes: UInt64)
  /// Wants a pong with the same number.
  case ping(id: Int64)

  /// The longest text frame that is read, in bytes.
  package static let maximumLength = 4 << 10

  /// Why a text frame is no message; the description is a sentence for the viewer's author.
  package struct Malformed: Error, Sendable, Equatable, CustomStringConvertible {
    /// The field that is wrong, where it is one.
    package let field: String?
    /// What is wrong.
    package let description: String
  }

  /// Reads a text frame. Strict: unknown fields, missing ones and wrong types are errors that name the field.
  /// - Throws: ``Malformed``.
  package static func parse(_ bytes: UnsafeRawBufferPointer) throws(Malformed) -> ViewerMessage {
    guard bytes.count <= maximumLength else {
      throw Malformed(field: nil, description: "the message is over \(maximumLength) bytes")
    }
    return try parse([UInt8](bytes))
  }

  /// Reads a text frame.
  /// - Throws: ``Malformed``.
  package static func parse(_ bytes: [UInt8]) throws(Malformed) -> ViewerMessage {
    guard bytes.count <= maximumLength else {
      throw Malformed(field: nil, description: "the message is over \(maximumLength) bytes")
    }
    var fields: Fields
    do {
      fields = Fields(members: try FlatJSONReader.read(bytes))
    } catch {
      throw Malformed(
        field: nil, description: "the message is not a flat JSON object: \(error.sentence)")
    }
    let message: ViewerMessage
    let type = try fields.string("type")
    switch type {
    case "open":
      let token = try fields.string("token")
      guard !token.isEmpty else { throw Fields.wrong("token", "is empty") }
      message = .open(
        Open(
          token: Secret(token), size: try fields.size(required: false),
          acks: try fields.bool("acks"), notices: try fields.bool("notices")))
    case "resize":
      guard let size = try fields.size(required: true) else { throw Fields.missing("columns") }
      message = .resize(size)
    case "ack":
      let bytes = try fields.integer("bytes")
      guard bytes >= 0 else { throw Fields.wrong("bytes", "is negative") }
      message = .ack(bytes: UInt64(bytes))
    case "ping": message = .ping(id: try fields.integer("id"))
    default:
      throw Fields.wrong("type", "is none of open, resize, ack and ping")
    }
    if let name = fields.unused {
      throw Malformed(field: name, description: "field '\(name)' is unknown in a '\(type)' message")
    }
    return message
  }

  /// The members that have not been asked for yet.
  private struct Fields {
    var members: [(name: String, value: FlatJSONValue)]

    static func wrong(_ name: String, _ what: String) -> Malformed {
      Malformed(field: name, description: "field '\(name)' \(what)")
    }

    static func missing(_ name: String) -> Malformed { wrong(name, "is missing") }

    /// The name of a member that nobody asked for, shortened.
    var unused: String? { members.first.map { String($0.name.prefix(40)) } }

    mutating func take(_ name: String) -> FlatJSONValue? {
      guard let index = members.firstIndex(where: { $0.name == name }) else { return nil }
      let value = members.remove(at: index).value
      return value == .null ? nil : value
    }

    mutating func string(_ name: String) throws(Malformed) -> String {
      switch take(name) {
      case .string(let text)?: return text
      case nil: throw Self.missing(name)
      default: throw Self.wrong(name, "is not a string")
      }
    }

    mutating func integer(_ name: String) throws(Malformed) -> Int64 {
      switch take(name) {
      case .integer(let number)?: return number
      case nil: throw Self.missing(name)
      default: throw Self.wrong(name, "is not a whole number")
      }
    }

    mutating func bool(_ name: String) throws(Malformed) -> Bool {
      switch take(name) {
      case .bool(let value)?: return value
      case nil: return false
      default: throw Self.wrong(name, "is neither true nor false")
      }
    }

    /// Both or neither of `columns` and `rows`, brought into the bounds.
    mutating func size(required: Bool) throws(Malformed) -> TerminalSize? {
      let given = Set(members.map(\.name)).intersection(["columns", "rows"])
      if given.isEmpty, !required { return nil }
      let columns = try integer("columns")
      let rows = try integer("rows")
      guard (1...65535).contains(columns) else { throw Self.wrong("columns", "is not 1 to 65535") }
      guard (1...65535).contains(rows) else { throw Self.wrong("rows", "is not 1 to 65535") }
      return TerminalSize(columns: Int(columns), rows: Int(rows))
    }
  }
}
