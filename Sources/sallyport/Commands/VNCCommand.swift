import ArgumentParser
import ConsoleProtocol
import EventLoop
import Foundation
import Glibc

/// `sallyport vnc TARGET`
struct VNCCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "vnc",
    abstract: "A VM's screen in a VNC viewer of this machine.",
    discussion: """
      Opens a port on 127.0.0.1, prints it, starts a viewer where one is installed (vncviewer, remote-viewer, \
      gvncviewer, xtigervncviewer, vinagre, krdc), and ends when the viewer leaves. The viewer needs no password: the \
      login to Proxmox VE happens here, anew for each viewer that connects.

        sallyport vnc qemu/100
        sallyport vnc web1 --no-viewer --port 5901     then: vncviewer 127.0.0.1::5901

      For a script: one line of JSON with host and port, then any number of viewers, one after the other:
        sallyport vnc qemu/100 --json --keep

      Whoever can use this machine's loopback while the port is open can connect to it.
      """)

  @Argument(help: "qemu/VMID, lxc/VMID, node/NAME or a guest's name.")
  var target: String

  @Option(help: ArgumentHelp("The port on 127.0.0.1; 0 takes a free one.", valueName: "port"))
  var port = 0

  @Flag(help: "Print {\"host\", \"port\"} as one line of JSON instead of a sentence.")
  var json = false

  @Flag(help: "Don't start a viewer.")
  var noViewer = false

  @Flag(help: "Go on when the viewer leaves, and wait for the next.")
  var keep = false

  @Flag(help: "Look only: keys and pointer are not sent.")
  var readOnly = false

  @OptionGroup(title: "Which cluster") var connection: ConnectionOptions

  func validate() throws {
    guard (0...65535).contains(port) else { throw ValidationError("--port is 0 to 65535.") }
  }

  /// What `--json` prints.
  private struct Opened: Encodable {
    var host = "127.0.0.1"
    var port: Int
    var target: String
  }

  func run() async throws {
    var connection = connection
    let target = try Parsing.target(target, &connection)
    let source = try connection.connection().source
    let group = try Parsing.loops()
    let loop = group.next()
    let doors = AsyncStream.makeStream(of: Int32.self)
    let opened: Int = try await withCheckedThrowingContinuation { done in
      loop.execute {
        do throws(LoopError) {
          done.resume(
            returning: try ScreenDoor.open(on: loop, port: port, viewers: doors.continuation))
        } catch {
          done.resume(
            throwing: Failure(
              kind: "port-taken", sentence: "The port can't be opened: \(error).",
              remedy: "Give another --port, or 0 for a free one."))
        }
      }
    }
    if json {
      try JSONOutput.printLine(Opened(port: opened, target: self.target))
    } else {
      printOut("\(self.target) waits for a viewer on 127.0.0.1:\(opened)")
    }
    var viewer: Process?
    if !noViewer {
      viewer = ViewerProgram.start(port: opened)
      if viewer == nil, !json {
        printError("No VNC viewer was found; connect one to 127.0.0.1::\(opened) (Ctrl-C ends).\n")
      }
    }
    defer { if viewer?.isRunning == true { viewer?.terminate() } }
    let started = viewer?.processIdentifier
    Task {
      let signal = await Signals.first(of: [SIGINT, SIGTERM, SIGHUP])
      if let started { kill(started, SIGTERM) }
      Glibc.exit(128 + signal)
    }
    try await serve(doors.stream, target, source, loop)
    group.shutdown()
    await source.close()
  }

  /// Serves one viewer after the other.
  private func serve(
    _ viewers: AsyncStream<Int32>, _ target: Target, _ source: any ConsoleSource, _ loop: Loop
  ) async throws {
    for await descriptor in viewers {
      let ending: Ending
      do {
        let pending = try await source.line(
          to: target, console: .vnc, size: nil, readOnly: readOnly, on: loop)
        ending = await ScreenSession.run(pending, viewer: descriptor)
      } catch let failure as Failure where keep {
        close(descriptor)
        printError(failure.text)
        continue
      }
      if ending.kind == .viewerLeft {
        if !keep { return }
      } else if keep {
        printError(Failure(ending).text)
      } else {
        throw Failure(ending)
      }
    }
  }
}

/// The listening port, and whoever comes to it.
enum ScreenDoor {
  /// Opens the port until the stream's reader has gone; gives its number. Loop thread only.
  static func open(
    on loop: Loop, port: Int, viewers: AsyncStream<Int32>.Continuation
  ) throws(LoopError) -> Int {
    let listener = try Listener.tcp(on: loop, address: .loopback(port: port)) { descriptor, _ in
      viewers.yield(descriptor)
    }
    let kept = OnLoop(listener, loop: loop)
    viewers.onTermination = { _ in kept.execute { $0.close() } }
    return listener.port
  }
}

/// One viewer at one screen.
final class ScreenSession: ConsoleLineUser, StreamHandler {
  private let loop: Loop
  private var line: (any ConsoleLine)?
  private var viewer: EventLoop.Stream?
  private var done: CheckedContinuation<Ending, Never>?
  private var isOpen = false

  /// Bytes that wait on either side before the other is held back.
  private static let bound = 1 << 20

  private init(loop: Loop) { self.loop = loop }

  /// Relays until one of both leaves.
  static func run(_ pending: OnLoop<PendingLine>, viewer descriptor: Int32) async -> Ending {
    let loop = pending.loop
    return await withCheckedContinuation { done in
      pending.execute { pending in
        let session = ScreenSession(loop: loop)
        session.done = done
        session.begin(pending, descriptor)
      }
    }
  }

  private func begin(_ pending: PendingLine, _ descriptor: Int32) {
    do {
      viewer = try EventLoop.Stream.adopt(on: loop, descriptor: descriptor, handler: self)
      // An RFB client is silent until the server's banner; what comes earlier waits in the kernel.
      viewer?.pauseReading()
      line = pending.start(for: self)
    } catch {
      finish(ScreenSession.viewerLeft)
    }
  }

  private static let viewerLeft = Ending(
    hop: .viewer, kind: .viewerLeft, sentence: "The viewer closed the console.")

  func consoleOpened(_ about: ConsoleAbout) {
    isOpen = true
    viewer?.resumeReading()
  }

  func console(received bytes: UnsafeMutableRawBufferPointer) {
    viewer?.write(UnsafeRawBufferPointer(bytes))
    line?.consumed(bytes.count)
    if let viewer, viewer.pendingBytes > ScreenSession.bound { line?.pauseReading() }
  }

  func consoleDrained() {
    if let line, isOpen, line.pendingBytes < ScreenSession.bound { viewer?.resumeReading() }
  }

  func consoleNotice(_ sentence: String) {}

  func consoleEnded(_ ending: Ending) {
    line = nil
    finish(ending)
  }

  func streamConnected(_ stream: EventLoop.Stream) {}

  func stream(_ stream: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    guard let line else { return }
    line.send(UnsafeRawBufferPointer(bytes))
    if line.pendingBytes > ScreenSession.bound { stream.pauseReading() }
  }

  func streamDrained(_ stream: EventLoop.Stream) { line?.resumeReading() }

  func streamClosed(_ stream: EventLoop.Stream, _ end: StreamEnd) {
    viewer = nil
    finish(ScreenSession.viewerLeft)
  }

  private func finish(_ ending: Ending) {
    guard let done else { return }
    self.done = nil
    line?.leave()
    line = nil
    viewer?.closeAfterFlush()
    viewer = nil
    done.resume(returning: ending)
  }
}

/// VNC viewers that this machine may have.
enum ViewerProgram {
  /// Starts the first that is there and has a screen to draw on; nil where none is.
  static func start(port: Int) -> Process? {
    guard Environment["DISPLAY"] != nil || Environment["WAYLAND_DISPLAY"] != nil else { return nil }
    let candidates: [(name: String, argument: String)] = [
      ("vncviewer", "127.0.0.1::\(port)"), ("xtigervncviewer", "127.0.0.1::\(port)"),
      ("remote-viewer", "vnc://127.0.0.1:\(port)"), ("gvncviewer", "127.0.0.1::\(port)"),
      ("vinagre", "vnc://127.0.0.1:\(port)"), ("krdc", "vnc://127.0.0.1:\(port)"),
    ]
    for (name, argument) in candidates {
      guard let path = Programs.find(name) else { continue }
      let process = Process()
      process.executableURL = URL(fileURLWithPath: path)
      process.arguments = [argument]
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = FileHandle.nullDevice
      process.standardError = FileHandle.nullDevice
      if (try? process.run()) != nil { return process }
    }
    return nil
  }
}

/// Programs on the path.
enum Programs {
  /// The program's full path; nil where it isn't installed.
  static func find(_ name: String) -> String? {
    for folder in (Environment["PATH"] ?? "/usr/bin:/bin").split(separator: ":") {
      let path = "\(folder)/\(name)"
      if access(path, X_OK) == 0 { return path }
    }
    return nil
  }
}
