import ArgumentParser
import ConsoleProtocol
import Glibc
import GuestExec
import ProxmoxClient

/// `sallyport cp SRC DST`
struct CopyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cp",
    abstract: "Copies files to and from VMs, containers and nodes.",
    discussion: """
      One side is TARGET:/path, the other a path of this machine, or - for standard input or output. A folder as \
      destination takes the file under its own name.

        sallyport cp site.conf web1:/etc/nginx/conf.d/
        sallyport cp db1:/var/backups/shop.sql.gz .
        sallyport cp -r ./release lxc/200:/srv/
        pg_dump shop | sallyport cp - db1:/srv/shop.sql
        sallyport cp web1:/var/log/syslog - | grep error

      It goes through the guest's agent or the shell, as `sallyport exec` does; nothing has to be installed but a POSIX \
      shell with coreutils or busybox. Any size. The SHA-256 is compared at both ends before anything is in its place: \
      until then the bytes are in a hidden file beside it (.NAME.….part). A copy that was interrupted goes on from there \
      when it is run again; --no-resume begins anew. The permission bits are kept. Folders go as one tar archive and \
      can't be resumed.

      Windows guests have no shell that this could use: use `sallyport exec` with PowerShell there.
      Exit codes are those of the other commands: 20 target, 21 permission, 22 unreachable, 1 anything else, e.g. a hash \
      that differs. All are in docs/exit-codes.md.
      """)

  @Argument(help: ArgumentHelp("TARGET:/path, a path, or -.", valueName: "source"))
  var source: String

  @Argument(help: ArgumentHelp("TARGET:/path, a path, or -.", valueName: "destination"))
  var destination: String

  @Flag(name: .shortAndLong, help: "A folder with all that is in it.")
  var recursive = false

  @Flag(help: "With -r, put the new folder in the place of one that is there.")
  var replace = false

  @Flag(
    inversion: .prefixedNo, help: "Go on where an earlier copy of the same file was interrupted.")
  var resume = true

  @Option(help: ArgumentHelp("The new file's permission bits: 644, 0600.", valueName: "octal"))
  var mode: String?

  @Option(help: ArgumentHelp("The user in the target to copy as.", valueName: "name"))
  var runAs: String?

  @Flag(help: "Print one JSON object at the end: bytes, sha256, seconds, path.")
  var json = false

  @Flag(name: .shortAndLong, help: "No progress bar, nothing but errors.")
  var quiet = false

  @OptionGroup(title: "The way") var transport: TransportOptions
  @OptionGroup(title: "Which cluster") var connection: ConnectionOptions

  func validate() throws {
    if let mode, mode_t(mode, radix: 8).map({ $0 > 0o7777 }) ?? true {
      throw ValidationError("--mode is an octal number such as 644.")
    }
    if replace, !recursive { throw ValidationError("--replace goes with -r.") }
  }

  func run() async throws {
    do {
      try await copy()
    } catch let failure as ExecFailure {
      var failure = Failure(failure)
      failure.status = ExecStatus.below200(failure.status)
      throw failure
    } catch var failure as Failure {
      failure.status = ExecStatus.below200(failure.status)
      throw failure
    }
  }

  private func copy() async throws {
    let hub = SignalHub()
    let (from, to) = (try CopyEndpoint(source), try CopyEndpoint(destination))
    var connection = connection
    let remote: String
    switch (from, to) {
    case (.remote, .remote):
      throw Failure.usage(
        "Both sides are targets.",
        remedy: "sallyport cp \(source) - | sallyport cp - \(destination)")
    case (.remote(let target, _), _), (_, .remote(let target, _)): remote = target
    default:
      throw Failure.usage(
        "Neither side is in a target.", remedy: "Write one of them as TARGET:/path.")
    }
    let target = try Parsing.target(remote, &connection)
    let source = try connection.connection().execSource(transport)
    let shell = GuestShell(
      source: source, target: target, via: transport.via, user: runAs, name: remote)
    let bar = ProgressBar(
      "\(from.shown) → \(to.shown)", quiet: quiet || json || (to == .stream && isatty(1) == 1))
    var copy = FileCopy(shell: shell, bar: bar)
    copy.resumes = resume
    copy.mode = mode.flatMap { mode_t($0, radix: 8) }
    let clock = ContinuousClock()
    let begin = clock.now
    defer { bar.clear() }
    let result = try await hub.interruptible { [copy, recursive, replace] in
      switch (from, to) {
      case (.local(let path), .remote(_, let place)):
        recursive
          ? try await copy.upload(tree: path, to: place, replaces: replace)
          : try await copy.upload(path, to: place)
      case (.stream, .remote(_, let place)):
        try await copy.upload(stream: nil, "-", to: place)
      case (.remote(_, let path), .local(let place)):
        recursive
          ? try await copy.download(tree: path, to: place, replaces: replace)
          : try await copy.download(path, to: place)
      case (.remote(_, let path), _): try await copy.download(stream: path)
      default: throw Failure.usage("Neither side is in a target.")
      }
    }
    await source.close()
    bar.clear()
    let seconds = (clock.now - begin).seconds
    if json {
      printOut(
        JSONValue.object([
          "bytes": .int(result.bytes), "resumedFrom": .int(result.resumedFrom),
          "sha256": .string(result.sha256), "path": .string(result.path),
          "seconds": .double((seconds * 1000).rounded() / 1000),
        ]).encoded(pretty: false))
    } else if !quiet, isatty(2) == 1 {
      let rate = seconds > 0 ? Int(Double(result.bytes - result.resumedFrom) / seconds) : 0
      printError(
        "\(result.path): \(Quantity.bytes(result.bytes)) in \(Quantity.clock(seconds)) "
          + "(\(Quantity.bytes(rate))/s), SHA-256 \(result.sha256.prefix(16))… at both ends\n")
    }
  }
}
