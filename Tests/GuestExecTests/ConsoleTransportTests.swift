import ConsoleProtocol
import PVESimulator
import ProxmoxClient
import TestSupport
import Testing

@testable import GuestExec

@Suite("commands on consoles and serial ports", .serialized)
struct ConsoleTransportTests {
  @Test(
    "a container's console that is logged in runs commands, and is left as it was",
    arguments: [false, true])
  func console(posix: Bool) async throws {
    try await ShellBed.with { bed in
      var options = ConsoleExecOptions()
      options.shell.runner = posix ? .posix : .automatic
      let console = ConsoleTransport(client: bed.client, loops: bed.loops, options: options)
      for i in 0..<2 {
        let out = try await console.sh(
          "printf 'a\\000\\034b'; echo err >&2; exit \(i)", on: bed.container())
        #expect(out.stdout == [97, 0, 28, 98])
        #expect(out.err == "err\n")
        #expect(out.end == .exited(i))
      }
      // Ctrl-\ would leave the console.
      let all = (0..<512).map { UInt8(truncatingIfNeeded: $0) }
      let echo = try await console.run(["cat"], on: bed.container(), input: all)
      #expect(echo.stdout == all)
    }
  }

  @Test("a console that asks for a login is refused without one, and logged in and out with one")
  func login() async throws {
    let prompt = SimulatedTerminal.command([
      "/bin/sh", "-c",
      """
      while :; do printf 'ct200 login: '; read -r user || exit; stty -echo; printf 'Password: '; read -r word || exit
      stty echo; echo; if [ "$user:$word" = root:s3cret ]; then /bin/sh -i; else echo Login incorrect; fi; done
      """,
    ])
    try await ShellBed.with({ $0.guests[2].terminal = prompt }) { bed in
      let without = ConsoleTransport(client: bed.client, loops: bed.loops)
      await #expect(throws: ExecFailure.self) {
        try await without.run(["true"], on: bed.container())
      }
      try await Task.sleep(for: .milliseconds(800))
      var options = ConsoleExecOptions()
      options.user = "root"
      options.password = Secret("s3cret")
      let with = ConsoleTransport(client: bed.client, loops: bed.loops, options: options)
      for _ in 0..<2 {
        let out = try await with.run(["echo", "in"], on: bed.container())
        #expect(out.out == "in\n")
        #expect(out.end == .exited(0))
      }
    }
  }

  @Test("a serial port is a terminal and nothing else")
  func serial() async throws {
    try await ShellBed.with { bed in
      let serial = SerialTransport(client: bed.client, loops: bed.loops)
      await #expect(throws: ExecFailure.self) {
        try await serial.start(ExecRequest(["true"]), on: bed.vm())
      }
      var request = ExecRequest(["echo", "a b"], hasInput: true)
      request.terminal = TerminalSize(columns: 80, rows: 24)
      await #expect(throws: ExecFailure.self) { try await serial.start(request, on: bed.vm(101)) }
      await #expect(throws: ExecFailure.self) {
        try await serial.start(request, on: bed.container())
      }
      let process = try await serial.start(request, on: bed.vm())
      var out = await process.collect { $0.out.contains("a b\r\n") }
      #expect(out.out.contains("a b\r\n"))
      try await process.write(Array("echo x$((40+2))\r".utf8))
      out = await process.collect { $0.out.contains("x42") }
      #expect(out.out.contains("x42"))
      await process.cancel()
      #expect(await process.collect().end == .cancelled)
    }
  }
}
