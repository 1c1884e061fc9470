import ConsoleProtocol
import GuestExec
import ProxmoxClient

/// How `exec` and `attach` end: with the guest's code, or with one of ours above 200. `docs/exit-codes.md` is the list
/// for people.
enum ExecStatus {
  /// The exit code for the end of a command.
  static func code(_ end: ExecEnd) -> Int32 {
    switch end {
    case .exited(let code) where (0...255).contains(code): Int32(code)
    case .exited: ExitStatus.execOddCode.rawValue
    // 128 + n, as shells have it; a number that is no Unix signal (Windows' exceptions) has no such code.
    case .signalled(let number) where (1...64).contains(number): 128 + Int32(number)
    case .signalled: ExitStatus.execOddCode.rawValue
    case .timedOut: ExitStatus.execTimedOut.rawValue
    case .cancelled: ExitStatus.execCancelled.rawValue
    case .lost: ExitStatus.execLost.rawValue
    }
  }

  /// What there is to say about an end, where the code alone doesn't say it; nil where it does.
  static func failure(_ end: ExecEnd) -> Failure? {
    switch end {
    case .exited(let code) where (0...255).contains(code): nil
    case .exited(let code):
      Failure(
        kind: "exit-code", sentence: "The command ended with \(code), which is no exit code here.",
        remedy: "--json tells the number.", status: .execOddCode)
    case .signalled(let number) where (1...64).contains(number): nil
    case .signalled(let number):
      Failure(
        kind: "signalled",
        sentence:
          "The command was ended by 0x\(String(UInt32(truncatingIfNeeded: number), radix: 16)).",
        status: .execOddCode)
    case .timedOut:
      Failure(
        kind: "timed-out", sentence: "The time limit was over, and the command was ended.",
        remedy: "A larger --timeout lets it run longer.", status: .execTimedOut)
    case .cancelled:
      Failure(kind: "cancelled", sentence: "The command was cancelled.", status: .execCancelled)
    case .lost(let why):
      Failure(
        kind: "lost", sentence: why,
        remedy: "Whether it ran to its end isn't known. Look at what it should have done before "
          + "you run it again.", status: .execLost)
    }
  }

  /// The status for why nothing was started.
  static func status(_ kind: ExecFailure.Kind) -> ExitStatus {
    switch kind {
    case .badRequest: .execUsage
    case .targetNotFound, .guestNotRunning: .execTarget
    case .agentNotConfigured, .agentNotRunning, .agentBooting, .agentExecDisabled: .execAgent
    case .permissionDenied, .loginFailed: .execPermission
    case .unsupportedVersion, .unsupported, .noTransport: .execTransport
    case .startFailed: .execNotStarted
    case .unreachable: .execUnreachable
    case .busy: .execLimit
    case .cancelled: .execCancelled
    case .apiError: .execFailure
    }
  }

  /// The same as `status`, but above 200, where the guest's codes are as rare as can be.
  static func above200(_ status: ExitStatus) -> ExitStatus {
    switch status {
    case .usage: .execUsage
    case .configuration: .execConfiguration
    case .guest: .execTarget
    case .permission: .execPermission
    case .unreachable, .violation: .execUnreachable
    case .limit: .execLimit
    case .failure, .worker, .link: .execFailure
    default: status
    }
  }

  /// Runs the body of a command whose exit code is a guest's, our own failures above 200.
  static func guarded<T>(_ body: () async throws -> T) async throws -> T {
    do {
      return try await body()
    } catch var failure as Failure {
      failure.status = above200(failure.status)
      throw failure
    } catch let failure as ExecFailure {
      throw Failure(failure)
    }
  }
}

extension Failure {
  /// Why a command was not started.
  init(_ failure: ExecFailure) {
    self.init(
      kind: failure.kind.rawValue, sentence: failure.sentence, remedy: failure.remedy,
      details: [], status: ExecStatus.status(failure.kind))
  }
}

extension ExecStatus {
  /// The code of a command that has no guest's code to keep apart from (`cp`, `jobs`), for one above 200.
  static func below200(_ status: ExitStatus) -> ExitStatus {
    switch status {
    case .execUsage: .usage
    case .execConfiguration: .configuration
    case .execTarget, .execAgent, .execTransport: .guest
    case .execPermission: .permission
    case .execUnreachable, .execLost: .unreachable
    case .execLimit, .execTimedOut, .execCancelled: .limit
    case .execNotStarted, .execOddCode, .execFailure: .failure
    default: status
    }
  }
}
