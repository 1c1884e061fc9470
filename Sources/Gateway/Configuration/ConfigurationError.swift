/// Why a configuration can't be used: which field, what is wrong with it, and what would be right.
package struct ConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
  /// The field's path, e.g. `clusters[0].timeouts.connect`, or the environment variable's name. Empty for the whole
  /// file.
  package var field: String
  /// What is wrong.
  package var problem: String
  /// What to do about it: the shape that is taken, or an example.
  package var remedy: String

  /// Puts the parts together.
  package init(_ field: String, _ problem: String, remedy: String = "") {
    self.field = field
    self.problem = problem
    self.remedy = remedy
  }

  /// `field: problem. Remedy.`
  package var description: String {
    var text = field.isEmpty ? problem : "\(field): \(problem)"
    if !remedy.isEmpty { text += ". \(remedy)" }
    if let last = text.last, !".!?".contains(last) { text += "." }
    return text
  }
}
