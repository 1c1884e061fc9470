/// Takes the messages of a client apart: bytes in, events out. Messages may come in any pieces.
///
/// What a Kubernetes API server ignores (a message without a byte, a size of zero, input behind its end) is ignored here
/// too. What it can't mean (data on a channel that is ours, a size that is no JSON) is a violation, with a sentence: a
/// client that waits for the effect of it would wait for ever.
package struct RemoteCommandReader: Sendable {
  /// What a piece of a message says.
  package enum Event: Equatable, Sendable {
    /// These bytes of the piece belong to standard input.
    case stdin(Range<Int>)
    /// Standard input is over.
    case stdinClosed
    /// The terminal has this size now.
    case resize(TerminalSize)
    /// The client broke the protocol; the sentence's end. Nothing that follows is read.
    case violation(String)
  }

  private enum State {
    case start
    case stdin
    case control(RemoteCommand.Channel, [UInt8])
    /// A message on a channel where only an empty one is harmless.
    case silent(UInt8)
    case broken
  }

  private let version: RemoteCommand.Version
  private var state = State.start
  private var isClosed = false

  /// For one connection.
  package init(_ version: RemoteCommand.Version) { self.version = version }

  /// Takes a piece of a message.
  /// - Parameter isFinal: whether it is the last piece of its message.
  /// - Returns: what it says; nil for nothing (yet).
  package mutating func take(_ piece: UnsafeRawBufferPointer, isFinal: Bool) -> Event? {
    var start = 0
    if case .start = state, let first = piece.first {
      state = begin(first)
      start = 1
    }
    let event = take(piece, from: start, isFinal: isFinal)
    if case .violation = event {
      state = .broken
    } else if case .broken = state {
      return nil
    } else if isFinal {
      state = .start
    }
    return event
  }

  private func begin(_ first: UInt8) -> State {
    switch RemoteCommand.Channel(rawValue: first) {
    case .stdin: .stdin
    case .resize: .control(.resize, [])
    case .close where version.canClose: .control(.close, [])
    default: .silent(first)
    }
  }

  private mutating func take(
    _ piece: UnsafeRawBufferPointer, from start: Int, isFinal: Bool
  ) -> Event? {
    switch state {
    case .start, .broken: return nil
    case .stdin:
      guard !isClosed, start < piece.count else { return nil }
      return .stdin(start..<piece.count)
    case .silent(let channel):
      guard start < piece.count else { return nil }
      if channel == RemoteCommand.Channel.close.rawValue {
        return .violation(
          "closing a stream needs the subprotocol \(RemoteCommand.Version.v5.rawValue)")
      }
      return .violation("there is nothing to be sent on channel \(channel)")
    case .control(let channel, var bytes):
      guard bytes.count + piece.count - start <= RemoteCommand.maximumControlMessage else {
        return .violation(
          "a message on channel \(channel.rawValue) is over \(RemoteCommand.maximumControlMessage) bytes"
        )
      }
      bytes.append(contentsOf: piece[start...])
      state = .control(channel, bytes)
      guard isFinal else { return nil }
      return channel == .resize ? size(bytes) : close(bytes)
    }
  }

  private mutating func close(_ bytes: [UInt8]) -> Event? {
    guard let channel = bytes.first, bytes.count == 1 else {
      return .violation("closing takes exactly one byte, the channel's")
    }
    // A client that hears no more of a stream says so by closing it; it has nothing to do with the command.
    guard channel == RemoteCommand.Channel.stdin.rawValue, !isClosed else { return nil }
    isClosed = true
    return .stdinClosed
  }

  private func size(_ bytes: [UInt8]) -> Event? {
    guard !bytes.isEmpty else { return nil }
    guard let fields = try? FlatJSONReader.read(bytes) else {
      return .violation("a terminal's size is not {\"Width\":80,\"Height\":24}")
    }
    func number(_ wanted: String) -> Int? {
      // Go's JSON, in which clients and servers of Kubernetes are written, doesn't look at the case of names.
      for (name, value) in fields where name.lowercased() == wanted {
        if case .integer(let n) = value, (0...65535).contains(n) { return Int(n) }
      }
      return nil
    }
    guard let width = number("width"), let height = number("height") else {
      return .violation("a terminal's size is not {\"Width\":80,\"Height\":24}")
    }
    return TerminalSize(columns: width, rows: height).map { .resize($0) }
  }
}
