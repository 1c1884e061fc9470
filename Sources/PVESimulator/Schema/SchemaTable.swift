/// The table of all operations of the API: which eras have them, their parameters, permissions and answers.
///
/// ``generated`` is derived from PVE's schema by `generate.py`: a line for each schema that several operations share,
/// then a line for each operation. ``SchemaReader`` describes the fields. Lines are found at start and read when they
/// are first used, since a client uses few of them.
final class SchemaTable {
  /// An operation's place in the table.
  struct Entry {
    fileprivate var line: Line
    /// `GET`, `POST`, `PUT` or `DELETE`.
    var method: String
    /// With parameters in braces.
    var path: String
  }

  fileprivate struct Line {
    var start: UnsafePointer<UInt8>
    var count: Int

    var text: String {
      String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
    }
  }

  private let era: Era
  private var sharedLines: [Line] = []
  private var sharedSchemas: [Schema?] = []
  private var formats: [String: Format] = [:]
  /// The operations that the era has.
  private(set) var entries: [Entry] = []

  init(era: Era) {
    self.era = era
    SchemaTable.eachLine(of: SchemaTable.generated, read)
    SchemaTable.eachLine(of: EraPatches.additions, read)
    sharedSchemas = Array(repeating: nil, count: sharedLines.count)
  }

  /// The literals live as long as the process, so that pointers into them stay good.
  private static func eachLine(of text: StaticString, _ body: (Line) -> Void) {
    var start = text.utf8Start
    let end = start + text.utf8CodeUnitCount
    while start < end {
      let rest = UnsafeBufferPointer(start: start, count: end - start)
      let count = rest.firstIndex(of: UInt8(ascii: "\n")) ?? rest.count
      body(Line(start: start, count: count))
      start += count + 1
    }
  }

  private func read(_ line: Line) {
    let bytes = UnsafeBufferPointer(start: line.start, count: line.count)
    guard let first = bytes.first else { return }
    guard (65...90).contains(first) else {
      sharedLines.append(line)
      return
    }
    guard let tab = bytes.firstIndex(of: 9), tab + 2 < bytes.count,
      let space = bytes.firstIndex(of: 32), space < tab, let high = hexValue(bytes[tab + 1]),
      let low = hexValue(bytes[tab + 2]), (high << 4 | low) & era.bit != 0
    else { return }
    let method = String(decoding: bytes[..<space], as: UTF8.self)
    let path = String(decoding: bytes[(space + 1)..<tab], as: UTF8.self)
    guard EraPatches.exists(method, path, in: era) else { return }
    entries.append(Entry(line: line, method: method, path: path))
  }

  /// Reads an operation, with what is particular to the era.
  /// - Throws: ``SchemaReader/Malformed``, which a test rules out for every line.
  func operation(_ entry: Entry) throws(SchemaReader.Malformed) -> OperationSchema {
    var reader = SchemaReader(entry.line.text, table: self)
    var schema = try reader.operation()
    try EraPatches.apply(to: &schema, era: era)
    return schema
  }

  /// One of the shared schemas.
  func shared(_ index: Int) throws(SchemaReader.Malformed) -> Schema {
    guard sharedLines.indices.contains(index) else {
      throw SchemaReader.Malformed(description: "there is no shared schema \(index)")
    }
    if let known = sharedSchemas[index] { return known }
    var reader = SchemaReader(sharedLines[index].text, table: self)
    let schema = try reader.schema()
    sharedSchemas[index] = schema
    return schema
  }

  /// A format by its name.
  func format(_ name: String) throws(SchemaReader.Malformed) -> Format {
    if let known = formats[name] { return known }
    let format: Format
    if let keys = NamedFormats.propertyStrings[name] {
      var reader = SchemaReader(keys, table: self)
      format = .properties(try reader.keys())
    } else {
      format = .text(NamedFormats.text(name))
    }
    formats[name] = format
    return format
  }
}

extension Era {
  /// The era's bit in the table's list of eras.
  fileprivate var bit: UInt8 {
    switch self {
    case .v7_4: 1
    case .v8_4, .v8_4_2026: 2
    case .v9_0: 4
    case .v9_1: 8
    case .v9_2: 16
    }
  }
}
