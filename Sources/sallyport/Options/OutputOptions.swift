import ArgumentParser
import Foundation

/// How an answer is printed.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
  case text, json
}

/// `--output`, for every command whose answer a script may want.
struct OutputOptions: ParsableArguments {
  @Option(name: [.short, .long], help: "text for people, json for scripts.")
  var output: OutputFormat = .text
}

/// Writes values as JSON.
enum JSONOutput {
  /// Indented JSON with sorted keys.
  static func print(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    printOut(String(decoding: try encoder.encode(value), as: UTF8.self))
  }

  /// One line of JSON with sorted keys.
  static func printLine(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    printOut(String(decoding: try encoder.encode(value), as: UTF8.self))
  }
}
