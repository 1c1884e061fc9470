import EventLoop

/// Which objects of a list are asked for: `labelSelector` and `fieldSelector`.
struct KubernetesSelector: Sendable {
  enum Condition: Sendable {
    case equals(String, String)
    case differs(String, String)
    case exists(String)
    case lacks(String)
  }
  private var labels: [Condition] = []
  private var fields: [Condition] = []
  private static let knownFields = [
    "metadata.name", "metadata.namespace", "spec.nodeName", "status.phase",
  ]

  /// - Throws: 400 for what can't be evaluated: a list that holds too much is not what was asked for.
  init(_ request: HTTPRequest) throws(Problem) {
    for (name, value) in request.query {
      switch name {
      case "labelSelector": labels += try Self.read(value)
      case "fieldSelector":
        fields += try Self.read(value)
        for condition in fields {
          switch condition {
          case .equals(let field, _), .differs(let field, _):
            guard Self.knownFields.contains(field) else { throw Self.unknown(field) }
          case .exists(let field), .lacks(let field): throw Self.unknown(field)
          }
        }
      default: break
      }
    }
  }

  private static func unknown(_ field: String) -> Problem {
    Problem(
      400, "bad-selector", "'\(field.prefix(80))' can't be selected by.", field: "fieldSelector",
      remedy: "There are: \(knownFields.joined(separator: ", ")).")
  }

  private static func read(_ text: String) throws(Problem) -> [Condition] {
    var out: [Condition] = []
    for part in text.split(separator: ",") {
      let term = part.filter { $0 != " " }
      if term.contains("(") || term.contains(")") || term.contains("<") || term.contains(">") {
        throw Problem(
          400, "bad-selector", "The selector '\(text.prefix(80))' is not understood.",
          field: "labelSelector", remedy: "There are: a=b, a!=b, a and !a, joined by commas.")
      }
      let pieces = term.split(separator: "=", omittingEmptySubsequences: false)
      if term.hasPrefix("!") {
        out.append(.lacks(String(term.dropFirst())))
      } else if pieces.count == 1 {
        out.append(.exists(term))
      } else if pieces[0].hasSuffix("!"), pieces.count == 2 {
        out.append(.differs(String(pieces[0].dropLast()), String(pieces[1])))
      } else if pieces.count == 2 {
        out.append(.equals(String(pieces[0]), String(pieces[1])))
      } else if pieces.count == 3, pieces[1].isEmpty {
        out.append(.equals(String(pieces[0]), String(pieces[2])))
      } else {
        throw Problem(
          400, "bad-selector", "The selector '\(text.prefix(80))' is not understood.",
          field: "labelSelector", remedy: "There are: a=b, a!=b, a and !a, joined by commas.")
      }
    }
    return out
  }

  /// Whether an object is asked for.
  func matches(_ object: KubernetesObject) -> Bool {
    labels.allSatisfy { holds($0) { object.labels[$0] } }
      && fields.allSatisfy { condition in
        holds(condition) { field in
          switch field {
          case "metadata.name": object.name
          case "metadata.namespace": object.namespace
          case "spec.nodeName": object.node
          case "status.phase": object.phase
          default: nil
          }
        }
      }
  }

  private func holds(_ condition: Condition, _ value: (String) -> String?) -> Bool {
    switch condition {
    case .equals(let name, let wanted): value(name) == wanted
    case .differs(let name, let wanted): value(name) != wanted
    case .exists(let name): value(name) != nil
    case .lacks(let name): value(name) == nil
    }
  }
}
