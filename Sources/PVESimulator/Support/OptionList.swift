/// Options in the order of a configuration file: a guest's, a storage's.
struct OptionList: Sendable, Equatable {
  struct Option: Sendable, Equatable {
    var key: String
    var value: String
  }

  private(set) var options: [Option] = []

  init() {}

  init(_ pairs: [(String, String)]) { options = pairs.map { Option(key: $0.0, value: $0.1) } }

  var isEmpty: Bool { options.isEmpty }
  var keys: [String] { options.map(\.key) }

  /// An option's value; setting nil removes it.
  subscript(key: String) -> String? {
    get { options.first { $0.key == key }?.value }
    set {
      let at = options.firstIndex { $0.key == key }
      switch (at, newValue) {
      case (let i?, let value?): options[i].value = value
      case (nil, let value?): options.append(Option(key: key, value: value))
      case (let i?, nil): options.remove(at: i)
      case (nil, nil): break
      }
    }
  }

  /// As a file: `key: value`, a line each, in alphabetical order as PVE writes it.
  var text: String {
    options.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)\n" }.joined()
  }

  /// As kept over a restart.
  var document: JSON {
    .object(options.map { .init(key: $0.key, value: .string($0.value)) })
  }

  init(document: JSON?) {
    guard case .object(let members)? = document else { return }
    options = members.compactMap {
      if case .string(let value) = $0.value { Option(key: $0.key, value: value) } else { nil }
    }
  }
}
