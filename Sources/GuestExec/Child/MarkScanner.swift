import CSallyport

/// Finds records of ours in a stream of bytes that belong to somebody else: `MARK:text;`. The mark is random, so that
/// nobody else can have written it.
struct MarkScanner: Sendable {
  /// What a stream consists of.
  enum Piece: Sendable, Hashable {
    case bytes([UInt8])
    /// The text between the mark's colon and the semicolon.
    case record(String)
  }

  private let mark: [UInt8]
  private var held: [UInt8] = []
  /// A longer one is none of ours.
  private static let longest = 80

  /// - Parameter mark: without the colon.
  init(mark: String) { self.mark = Array((mark + ":").utf8) }

  /// The next bytes, and what they are known to be. Bytes that may be the beginning of a record are kept back.
  mutating func feed(_ bytes: [UInt8]) -> [Piece] {
    let all = held.isEmpty ? bytes : held + bytes
    held = []
    var pieces: [Piece] = []
    var from = 0
    func pass(to end: Int) {
      guard end > from else { return }
      pieces.append(.bytes(from == 0 && end == all.count ? all : Array(all[from..<end])))
      from = end
    }
    var search = 0
    while let at = Self.find(mark, in: all, from: search) {
      let start = at + mark.count
      let end = all[start...].prefix(Self.longest).firstIndex(of: UInt8(ascii: ";"))
      if let end {
        pass(to: at)
        pieces.append(.record(String(decoding: all[start..<end], as: UTF8.self)))
        from = end + 1
        search = from
      } else if all.count - start < Self.longest {
        pass(to: at)
        held = Array(all[at...])
        return pieces
      } else {
        search = start
      }
    }
    let keep = Self.beginning(of: mark, atEndOf: all, from: max(from, search))
    pass(to: all.count - keep)
    held = Array(all[(all.count - keep)...])
    return pieces
  }

  /// What was kept back, when nothing more comes.
  mutating func rest() -> [UInt8] {
    defer { held = [] }
    return held
  }

  private static func find(_ wanted: [UInt8], in bytes: [UInt8], from: Int) -> Int? {
    guard from < bytes.count else { return nil }
    return bytes.withUnsafeBytes { all -> Int? in
      guard let base = all.baseAddress else { return nil }
      return wanted.withUnsafeBytes { wanted -> Int? in
        guard let found = sp_find(base + from, all.count - from, wanted.baseAddress, wanted.count)
        else { return nil }
        return found - base
      }
    }
  }

  /// How many of the last bytes are the beginning of a mark.
  private static func beginning(of mark: [UInt8], atEndOf bytes: [UInt8], from: Int) -> Int {
    var length = min(mark.count - 1, bytes.count - from)
    while length > 0 {
      if bytes.suffix(length).elementsEqual(mark.prefix(length)) { return length }
      length -= 1
    }
    return 0
  }
}
