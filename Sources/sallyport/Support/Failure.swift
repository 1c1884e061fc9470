import ConsoleProtocol
import Glibc
import ProxmoxClient

/// How the process ends. `docs/exit-codes.md` is the list for people.
enum ExitStatus: Int32 {
  /// Everything went well; a console was left, or ended by itself in good order.
  case success = 0
  /// Something that none of the others describes.
  case failure = 1
  /// The guest or its console isn't there, or doesn't run.
  case guest = 20
  /// A credential, ticket or privilege is missing or was refused.
  case permission = 21
  /// The API host, the node or the gateway can't be reached, or isn't trusted.
  case unreachable = 22
  /// PVE's worker for the console failed.
  case worker = 23
  /// Somebody broke a protocol.
  case violation = 24
  /// A limit was reached, or the session was ended from outside.
  case limit = 25
  /// The link is unknown, used or expired.
  case link = 26
  /// The command line makes no sense (sysexits' EX_USAGE, as the argument parser uses it).
  case usage = 64
  /// The configuration can't be used (sysexits' EX_CONFIG).
  case configuration = 78

  // What runs a command in a guest ends with the guest's own code; what went wrong on our side is above 200.

  /// The command line makes no sense.
  case execUsage = 201
  /// The configuration can't be used, or nothing says which cluster is meant.
  case execConfiguration = 202
  /// The target isn't there or doesn't run.
  case execTarget = 203
  /// A credential, key, login or privilege is missing or was refused.
  case execPermission = 204
  /// The API host, the node or the gateway can't be reached, or isn't trusted.
  case execUnreachable = 205
  /// The guest agent isn't there, not yet there, or may not run programs.
  case execAgent = 206
  /// No transport can do what was asked.
  case execTransport = 207
  /// The program isn't there or can't be run; nothing ran.
  case execNotStarted = 208
  /// A limit: too many commands at once.
  case execLimit = 209
  /// The time limit was over, and the command was ended.
  case execTimedOut = 210
  /// It was cancelled.
  case execCancelled = 211
  /// How it ended isn't known.
  case execLost = 212
  /// It ended with a number that doesn't fit into an exit code.
  case execOddCode = 213
  /// Something that none of the others describes.
  case execFailure = 214
  /// Of several targets, some failed.
  case fleetFailed = 220
  /// The failure budget was used up: not all targets were tried.
  case fleetStopped = 221

  /// The status for the end of a console.
  init(_ ending: Ending) {
    switch ending.kind.closeCode {
    case 4000: self = .success
    case 4001...4099: self = .unreachable
    case 4100...4199: self = .guest
    case 4200...4299: self = .permission
    case 4300...4399: self = ending.kind == .apiError ? .failure : .unreachable
    case 4400...4499: self = .worker
    case 4500...4599: self = .violation
    case 4600...4699: self = .limit
    default: self = .link
    }
  }
}

/// Why a command could not do what it was asked to, as the person at the terminal gets to read it.
struct Failure: Error {
  /// A short word, the same for ever, for scripts: `permission-denied`.
  var kind: String
  /// What happened.
  var sentence: String
  /// What to do about it; may be empty.
  var remedy = ""
  /// Lines that belong to it.
  var details: [String] = []
  /// How the process ends.
  var status = ExitStatus.failure

  /// The configuration, or what stands in for it on the command line, can't be used.
  static func configuration(_ sentence: String, remedy: String = "") -> Failure {
    Failure(kind: "bad-configuration", sentence: sentence, remedy: remedy, status: .configuration)
  }

  /// The command line can't be meant like that.
  static func usage(_ sentence: String, remedy: String = "") -> Failure {
    Failure(kind: "usage", sentence: sentence, remedy: remedy, status: .usage)
  }
}

extension Failure {
  /// The end of a console.
  init(_ ending: Ending) {
    self.init(
      kind: ending.kind.rawValue, sentence: ending.sentence, remedy: ending.remedy,
      details: ending.details, status: ExitStatus(ending))
  }

  /// A call to PVE that failed.
  init(_ error: PVEError) {
    let ending = error.ending
    self.init(
      kind: error.code, sentence: ending.sentence, remedy: ending.remedy, details: ending.details,
      status: error.kind == .badConfiguration ? .configuration : ExitStatus(ending))
  }

  /// What goes to standard error: one line that says it, indented details, and the way out.
  var text: String {
    var out = "sallyport: \(kind): \(sentence)\n"
    for line in details { out += "  \(line)\n" }
    if !remedy.isEmpty { out += "  → \(remedy)\n" }
    return out
  }
}

/// Text for standard error, which is where everything goes that isn't the answer.
func printError(_ text: String) { writeAll(2, Array(text.utf8)) }

/// Text for standard output, at once.
func printOut(_ text: String) { writeAll(1, Array((text + "\n").utf8)) }

/// Writes all of it, also where the descriptor is a non-blocking one. Gives up when nobody reads any more.
@discardableResult
func writeAll(_ descriptor: Int32, _ bytes: [UInt8]) -> Bool {
  bytes.withUnsafeBytes { buffer in
    var done = 0
    while done < buffer.count {
      let n = write(descriptor, buffer.baseAddress.map { $0 + done }, buffer.count - done)
      if n > 0 {
        done += n
      } else if n < 0, errno == EAGAIN {
        var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&wait, 1, -1)
      } else if n < 0, errno == EINTR {
        continue
      } else {
        return false
      }
    }
    return true
  }
}
