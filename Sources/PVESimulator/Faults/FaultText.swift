/// Faults as text: `latency=200ms,path=/nodes/*`.
extension Fault: CustomStringConvertible, ExpressibleByStringLiteral {
  /// Reads `name=value,name=value`. A value with a comma in it stands in double quotes.
  /// - Throws: a sentence that names the field.
  public init(parsing text: String) throws(FaultError) {
    self = try Fault.read(try Fault.split(text))
  }

  /// The same as ``init(parsing:)`` for texts that are in the program: a mistake in one ends the program.
  public init(stringLiteral value: String) {
    do throws(FaultError) {
      try self.init(parsing: value)
    } catch {
      // A literal is the programmer's own text, never outside data.
      preconditionFailure("'\(value)' is no fault: \(error)")
    }
  }

  /// The text from which the same fault can be read.
  public var description: String {
    words.map { word in
      guard !word.value.isEmpty else { return word.name }
      let needsQuotes =
        word.value.contains { $0 == "," || $0 == "\"" } || word.value.first == " "
        || word.value.last == " "
      return needsQuotes
        ? "\(word.name)=\"\(word.value.replacing("\"", with: "\"\""))\""
        : "\(word.name)=\(word.value)"
    }.joined(separator: ",")
  }

  /// Reads a file of faults: a JSON array of objects, or a fault a line (empty lines and `#` comments are skipped).
  /// - Throws: a sentence that names the line or the place.
  public static func list(parsing text: String) throws(FaultError) -> [Fault] {
    let first = text.first { !$0.isWhitespace }
    if first == "[" {
      let json: JSON
      do throws(JSONReader.Malformed) {
        json = try JSONReader.read(Array(text.utf8))
      } catch {
        throw FaultError(error.message)
      }
      guard case .array(let items) = json else { throw FaultError("not an array of faults") }
      var faults: [Fault] = []
      for (i, item) in items.enumerated() {
        do throws(FaultError) {
          faults.append(try Fault(json: item))
        } catch {
          throw FaultError("fault \(i + 1): \(error)")
        }
      }
      return faults
    }
    var faults: [Fault] = []
    for (i, line) in text.utf8.split(separator: 10, omittingEmptySubsequences: false)
      .enumerated()
    {
      let trimmedLine = String(decoding: trimmed(Array(line)[...]), as: UTF8.self)
      guard !trimmedLine.isEmpty, !trimmedLine.hasPrefix("#") else { continue }
      do throws(FaultError) {
        faults.append(try Fault(parsing: trimmedLine))
      } catch {
        throw FaultError("line \(i + 1): \(error)")
      }
    }
    return faults
  }

  /// Splits at commas that are not in quotes; two quotes in a quoted value are one.
  private static func split(_ text: String) throws(FaultError) -> [Word] {
    var pieces: [[Character]] = [[]]
    var isQuoted = false
    for c in text {
      if c == "\"" { isQuoted.toggle() }
      if c == ",", !isQuoted {
        pieces.append([])
      } else {
        pieces[pieces.count - 1].append(c)
      }
    }
    if isQuoted { throw FaultError("a quote is not closed in '\(text)'") }
    var words: [Word] = []
    for piece in pieces {
      let at = piece.firstIndex(of: "=")
      let name = String(piece[..<(at ?? piece.count)])
      var value = at.map { String(piece[($0 + 1)...]) } ?? ""
      guard !name.isEmpty else { throw FaultError("a name is missing in '\(text)'") }
      if value.hasPrefix("\""), value.hasSuffix("\""), value.count >= 2 {
        value = String(value.dropFirst().dropLast()).replacing("\"\"", with: "\"")
      }
      words.append((name, value))
    }
    return words
  }
}
