/// How Kubernetes carries a command's streams in a websocket: every message begins with one byte that names its
/// channel, the rest belongs to that channel's stream.
///
/// Source: k8s.io/apimachinery `pkg/util/remotecommand/constants.go`, k8s.io/client-go `tools/remotecommand`.
package enum RemoteCommand {
  /// The forms of it that are spoken here; the raw value is the websocket's subprotocol.
  package enum Version: String, Sendable, Hashable, CaseIterable {
    /// Kubernetes 1.29 and later: a client can close one stream, so that standard input has an end.
    case v5 = "v5.channel.k8s.io"
    /// The same without closing: standard input ends with the connection.
    case v4 = "v4.channel.k8s.io"

    /// Whether the client may close standard input alone.
    package var canClose: Bool { self == .v5 }
  }

  /// The first byte of a message.
  package enum Channel: UInt8, Sendable, Hashable {
    /// Standard input, from the client.
    case stdin = 0
    /// Standard output, to the client. With a terminal: everything.
    case stdout = 1
    /// Standard error, to the client.
    case stderr = 2
    /// How it ended, to the client: one JSON object of the kind `Status`, the last message.
    case status = 3
    /// The terminal's size, from the client: `{"Width":80,"Height":24}`.
    case resize = 4
    /// From the client, v5 only: the second byte names the channel that is closed.
    case close = 255
  }

  /// Subprotocols with this prefix are no protocol: behind it stands a bearer token in base64url, without padding. It
  /// is how a browser, which can't set headers on a websocket, shows who it is.
  package static let bearerPrefix = "base64url.bearer.authorization.k8s.io."

  /// The most bytes of a message that isn't standard input.
  package static let maximumControlMessage = 1024

  /// A message to the client.
  package static func message(_ channel: Channel, _ payload: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(payload.count + 1)
    out.append(channel.rawValue)
    out += payload
    return out
  }
}

/// What the subprotocols that a client offers say.
package struct RemoteCommandOffer: Sendable {
  /// The version to speak: the first in the client's order that we know. Nil where there is none.
  package var version: RemoteCommand.Version?
  /// The bearer token among the subprotocols.
  package var bearer: Secret?
  /// Whether something looked like a bearer token and wasn't one, or there were several.
  package var hasBadBearer = false

  /// Reads a `Sec-WebSocket-Protocol` header.
  package init(_ header: String) {
    for piece in header.split(separator: ",") {
      let name = piece.drop { $0 == " " || $0 == "\t" }
      let text = String(name.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
      if text.hasPrefix(RemoteCommand.bearerPrefix) {
        let letters = text.dropFirst(RemoteCommand.bearerPrefix.count)
        let token = Self.base64url(letters).flatMap { String(validating: $0, as: UTF8.self) }
        if let token, !token.isEmpty, bearer == nil {
          bearer = Secret(token)
        } else {
          hasBadBearer = true
        }
      } else if version == nil {
        version = RemoteCommand.Version(rawValue: text)
      }
    }
  }

  /// The bytes behind base64url letters (RFC 4648 §5) without padding; nil for anything else.
  static func base64url(_ letters: some StringProtocol) -> [UInt8]? {
    var out: [UInt8] = []
    var buffer: UInt32 = 0
    var bits = 0
    for letter in letters.utf8 {
      let value: UInt8
      switch letter {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = letter - 65
      case UInt8(ascii: "a")...UInt8(ascii: "z"): value = letter - 71
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = letter + 4
      case UInt8(ascii: "-"): value = 62
      case UInt8(ascii: "_"): value = 63
      default: return nil
      }
      buffer = (buffer << 6 | UInt32(value)) & 0xFFFF
      bits += 6
      if bits >= 8 {
        bits -= 8
        out.append(UInt8(truncatingIfNeeded: buffer >> UInt32(bits)))
      }
    }
    // One letter more than whole bytes carries nothing, and bits that are left over are zero.
    guard bits < 6, buffer & (1 << UInt32(bits) - 1) == 0 else { return nil }
    return out
  }
}
