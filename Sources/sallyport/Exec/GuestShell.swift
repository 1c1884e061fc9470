import ConsoleProtocol
import GuestExec
import ProxmoxClient

/// Scripts in a target, with their streams in our hands: what `cp` is made of.
struct GuestShell: Sendable {
  /// What is the matter with a step that may be made again: the way broke, not the step.
  struct Broken: Error {
    var sentence: String
  }
  /// How a script ended, and what it wrote.
  struct Answer: Sendable {
    var code: Int
    var stdout: [UInt8] = []
    var stderr: [UInt8] = []
    var truncated = false

    /// The lines of standard output; the last holds everything from there on, without its line end.
    func lines(_ count: Int) -> [String] {
      var text = String(decoding: stdout, as: UTF8.self)
      if text.hasSuffix("\n") { text.removeLast() }
      return text.split(separator: "\n", maxSplits: count - 1, omittingEmptySubsequences: false)
        .map(String.init)
    }
  }

  let source: any ExecSource
  let target: Target
  let via: TransportName?
  let user: String?
  /// The target as it was written, for errors.
  let name: String

  /// Runs a script.
  /// - Parameters:
  ///   - input: gives the next bytes of standard input, empty at the end; nil for none.
  ///   - output: takes bytes of standard output; without it they are in the answer.
  ///   - limit: the most bytes of output; nil for the way's own.
  /// - Throws: ``Broken`` where it may be tried again, ``Failure`` where that is of no use.
  func run(
    _ script: String, _ arguments: [[UInt8]],
    input: (@Sendable () async throws -> [UInt8])? = nil,
    output: (@Sendable ([UInt8]) async throws -> Void)? = nil, limit: Int? = nil
  ) async throws -> Answer {
    let words = ["/bin/sh", "-c", script, "sallyport-cp"].map { Array($0.utf8) } + arguments
    var request = ExecRequest(.argv(words))
    request.user = user
    request.hasInput = input != nil
    request.outputLimit = limit
    var wish = ExecWish(request: request, via: via)
    wish.onDisconnect = .keepFor(60)
    let line: ExecLine
    do {
      line = try await source.start(wish, on: target)
    } catch let failure as ExecFailure {
      throw self.failure(failure)
    }
    let process = line.process
    return try await withTaskCancellationHandler {
      let answer: Answer
      do {
        answer = try await exchange(line, input, output)
      } catch {
        // Nobody wants the rest of it.
        await process.cancel()
        throw error
      }
      await source.forget(line)
      return answer
    } onCancel: {
      Task { await process.cancel() }
    }
  }

  private func exchange(
    _ line: ExecLine, _ input: (@Sendable () async throws -> [UInt8])?,
    _ output: (@Sendable ([UInt8]) async throws -> Void)?
  ) async throws -> Answer {
    let process = line.process
    let feeding = Task { () throws -> Void in
      guard let input else { return await process.closeInput() }
      while !Task.isCancelled {
        let bytes = try await input()
        if bytes.isEmpty { return await process.closeInput() }
        try await process.write(bytes)
      }
    }
    defer { feeding.cancel() }
    // Half of an input must not look like the whole: where feeding fails, the command is ended.
    let guarding = Task {
      if case .failure(let error) = await feeding.result {
        await process.cancel()
        return Optional(error)
      }
      return nil
    }
    var answer = Answer(code: -1)
    while let event = await process.next() {
      switch event {
      case .stdout(let bytes):
        if let output { try await output(bytes) } else { answer.stdout += bytes }
      case .stderr(let bytes):
        // Only the last of it is of use, in a message.
        answer.stderr = Array((answer.stderr + bytes).suffix(4096))
      case .note: break
      case .ended(let result):
        if let failure = line.startFailure { throw self.failure(failure) }
        answer.truncated = result.stdoutTruncated
        switch result.end {
        case .exited(let code):
          answer.code = code
          return answer
        case .lost(let why): throw Broken(sentence: why)
        case .signalled(let number):
          throw Broken(sentence: "A signal (\(number)) ended the copy's command in \(name).")
        case .timedOut: throw Broken(sentence: "The copy's command was ended by a time limit.")
        case .cancelled:
          feeding.cancel()
          if let error = await guarding.value {
            if let failure = error as? ExecFailure { throw self.failure(failure) }
            throw error
          }
          throw Failure(
            kind: "cancelled", sentence: "The copy was cancelled.", status: .execCancelled)
        }
      }
    }
    throw Failure(kind: "cancelled", sentence: "The copy was given up.", status: .execCancelled)
  }

  /// Says on which side it was, and what to do.
  private func failure(_ failure: ExecFailure) -> any Error {
    if failure.kind == .unreachable { return Broken(sentence: failure.sentence) }
    var out = Failure(failure)
    out.sentence = "\(name): \(failure.sentence)"
    if failure.kind == .unsupported, failure.remedy.isEmpty {
      out.remedy =
        "Copying needs a POSIX shell in the target and a transport that streams; Windows guests have none."
    }
    out.status = ExecStatus.below200(out.status)
    return out
  }
}
