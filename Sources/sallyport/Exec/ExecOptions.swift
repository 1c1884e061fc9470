import ArgumentParser
import ConsoleProtocol
import Glibc
import GuestExec
import ProxmoxClient

extension TransportName: ExpressibleByArgument {}

/// What is run, and how, as `exec` takes it with and without `--select`.
struct CommandOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A line for the target's shell (/bin/sh -c, or cmd /c on Windows) in place of a program.",
      valueName: "text"))
  var shell: String?

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("Sets a variable; may be repeated.", valueName: "name=value"))
  var env: [String] = []

  @Option(
    help: ArgumentHelp(
      "A file of NAME=VALUE lines; empty lines and lines with # are skipped.", valueName: "file"))
  var envFile: [String] = []

  @Option(
    help: ArgumentHelp(
      "Sets a variable to what it is in our own environment, and treats it as a secret.",
      valueName: "name"))
  var envSecret: [String] = []

  @Option(help: ArgumentHelp("The working directory, an absolute path.", valueName: "path"))
  var cwd: String?

  @Option(
    help: ArgumentHelp(
      "The user in the target to run as. (--user is who you are at PVE.)",
      valueName: "name"))
  var runAs: String?

  @Option(
    help: ArgumentHelp(
      "Ends the command after so long: 90, 90s, 15m, 2h.", valueName: "time"))
  var timeout: String?

  @Option(
    help: ArgumentHelp(
      "The most bytes of each output stream: 4096, 64k, 16M. What is over is dropped, and said.",
      valueName: "bytes"))
  var outputLimit: String?

  /// The request, from this and what stands behind `--`.
  func request(_ argv: [String]) throws -> ExecRequest {
    let command: ExecRequest.Command
    if let shell {
      guard argv.isEmpty else {
        throw Failure.usage(
          "--shell takes a whole line, and there is a program behind -- as well.",
          remedy: "Give one of them.")
      }
      command = .shell(Array(shell.utf8))
    } else {
      guard !argv.isEmpty else {
        throw Failure.usage(
          "There is nothing to run.",
          remedy: "Put the program behind --, e.g. `-- uname -a`, or give --shell TEXT.")
      }
      command = .argv(Arguments.bytes(of: argv))
    }
    var request = ExecRequest(command)
    request.environment = try variables()
    request.directory = cwd.map { Array($0.utf8) }
    request.user = runAs
    if let timeout {
      guard let time = Quantity.duration(timeout) else {
        throw Failure.usage(
          "'\(timeout)' is no time.", remedy: "Use seconds, or 90s, 15m, 2h, 500ms.")
      }
      request.timeLimit = time
    }
    if let outputLimit {
      guard let bytes = Quantity.bytes(outputLimit) else {
        throw Failure.usage(
          "'\(outputLimit)' is no number of bytes.", remedy: "Use 4096, 64k, 16M or 1G.")
      }
      request.outputLimit = bytes
    }
    do throws(ExecFailure) {
      try request.check()
    } catch {
      throw Failure(error)
    }
    return request
  }

  private func variables() throws -> [ExecRequest.Variable] {
    var out: [ExecRequest.Variable] = []
    for file in envFile {
      let text = try SecretSource.whole(file, what: "environment file")
      for (number, line) in text.split(separator: 10, omittingEmptySubsequences: false).enumerated()
      {
        var line = Array(line)
        if line.last == 13 { line.removeLast() }
        guard let first = line.first(where: { $0 != 32 && $0 != 9 }), first != UInt8(ascii: "#")
        else { continue }
        guard let equals = line.firstIndex(of: UInt8(ascii: "=")), equals > 0 else {
          throw Failure.usage(
            "Line \(number + 1) of \(file) is no variable.", remedy: "Lines are NAME=VALUE.")
        }
        out.append(.init(name: Array(line[..<equals]), value: Array(line[(equals + 1)...])))
      }
    }
    for assignment in env {
      let bytes = Array(assignment.utf8)
      guard let equals = bytes.firstIndex(of: UInt8(ascii: "=")), equals > 0 else {
        throw Failure.usage(
          "'\(assignment.prefix(40))' sets no variable.",
          remedy: "Use --env NAME=VALUE, or --env-secret NAME for one of our own environment.")
      }
      out.append(.init(name: Array(bytes[..<equals]), value: Array(bytes[(equals + 1)...])))
    }
    for name in envSecret {
      guard let value = getenv(name) else {
        throw Failure.usage(
          "There is no variable '\(name)' in our environment.", remedy: "Export it first.")
      }
      out.append(
        .init(
          name: Array(name.utf8),
          value: UnsafeBufferPointer(start: value, count: strlen(value)).map {
            UInt8(bitPattern: $0)
          }))
    }
    return out
  }
}

/// How commands get to their target.
struct TransportOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A transport by name: agent, ssh, local, shell, console or serial. Without it the best is "
        + "chosen; --explain tells.", valueName: "transport"))
  var via: TransportName?

  @Option(
    help: ArgumentHelp(
      "How long to wait for the agent of a guest that is still booting.", valueName: "seconds"))
  var agentWait: Int?

  @Option(
    help: ArgumentHelp(
      "Directly: the user for ssh to the nodes; with it ssh is among the transports. ($SALLYPORT_SSH_USER)",
      valueName: "user"))
  var sshUser: String?

  @Option(
    help: ArgumentHelp(
      "Directly: the private key for ssh; without it the ssh agent's and the usual files.",
      valueName: "file"))
  var sshKey: String?

  @Option(
    help: ArgumentHelp(
      "Directly: the file with the nodes' host keys, which are checked always.", valueName: "file"))
  var sshKnownHosts: String?

  @Option(help: ArgumentHelp("Directly: the nodes' ssh port.", valueName: "port"))
  var sshPort: Int?

  @Option(
    help: ArgumentHelp(
      "Directly: a node's address for ssh, where it isn't its name; may be repeated.",
      valueName: "node=address"))
  var sshHost: [String] = []

  @Option(
    help: ArgumentHelp(
      "Directly: this machine is that node, so that its guests are reached without a network.",
      valueName: "node"))
  var localNode: String?

  func validate() throws {
    if let agentWait, agentWait < 0 {
      throw ValidationError("--agent-wait is a number of seconds.")
    }
    if let sshPort, !(1...65535).contains(sshPort) {
      throw ValidationError("--ssh-port is 1 to 65535.")
    }
  }
}

/// Numbers with units.
enum Quantity {
  /// `90`, `90s`, `1.5m`, `2h`, `500ms`; above zero.
  static func duration(_ text: String) -> Duration? {
    let units: [(String, Double)] = [
      ("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400), ("", 1),
    ]
    guard let (unit, factor) = units.first(where: { text.hasSuffix($0.0) }),
      let number = Double(text.dropLast(unit.count)), number.isFinite, number > 0,
      number * factor < 1e9
    else { return nil }
    return .milliseconds(max(1, Int64(number * factor * 1000)))
  }

  /// `4096`, `64k`, `16M`, `1G`, also as `16MiB`; factors of 1024.
  static func bytes(_ text: String) -> Int? {
    var digits = text.lowercased()
    for suffix in ["ib", "b"] where digits.hasSuffix(suffix) {
      digits.removeLast(suffix.count)
      break
    }
    let shifts: [Character: Int] = ["k": 10, "m": 20, "g": 30, "t": 40]
    var shift = 0
    if let last = digits.last, let found = shifts[last] {
      shift = found
      digits.removeLast()
    }
    guard let number = Int(digits), number >= 0, number <= Int.max >> (shift + 1) else {
      return nil
    }
    return number << shift
  }

  /// `1.5 MiB`
  static func bytes(_ count: Int) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(count)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    if unit == 0 { return "\(count) B" }
    let tenths = Int((value * 10).rounded())
    return value >= 100
      ? "\(tenths / 10) \(units[unit])"
      : "\(tenths / 10).\(tenths % 10) \(units[unit])"
  }

  /// `4 s`, `2:05`, `1:02:03`
  static func clock(_ seconds: Double) -> String {
    let all = max(0, Int(seconds.rounded()))
    func two(_ n: Int) -> String { n < 10 ? "0\(n)" : "\(n)" }
    if all < 60 { return "\(all) s" }
    if all < 3600 { return "\(all / 60):\(two(all % 60))" }
    return "\(all / 3600):\(two(all / 60 % 60)):\(two(all % 60))"
  }
}

/// Our own arguments as the bytes that they are: Swift's strings would repair what isn't UTF-8.
enum Arguments {
  /// The bytes of the last arguments of the command line. They are looked up at its end, where they stand behind `--`.
  static func bytes(of texts: [String]) -> [[UInt8]] {
    let all = raw
    let tail = all.suffix(texts.count)
    // Only where they are the same texts: a test may parse other arguments than the process's own.
    let same =
      tail.count == texts.count
      && zip(tail, texts).allSatisfy { String(decoding: $0, as: UTF8.self) == $1 }
    return same ? Array(tail) : texts.map { Array($0.utf8) }
  }

  private static var raw: [[UInt8]] {
    let count = Int(CommandLine.argc)
    return (0..<count).compactMap { i in
      CommandLine.unsafeArgv[i].map { pointer in
        UnsafeBufferPointer(start: pointer, count: strlen(pointer)).map { UInt8(bitPattern: $0) }
      }
    }
  }
}
