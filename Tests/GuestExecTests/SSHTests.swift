import ConsoleProtocol
import Glibc
import TestSupport
import Testing

@testable import GuestExec

@Suite(
  "OpenSSH, beside the contract",
  .enabled(if: SSHServer.whyNot == nil, "there is no OpenSSH server here"), .timeLimit(.minutes(3)))
struct SSHTests {
  private func failure(
    _ transport: SSHTransport, _ place: Place = .node,
    _ request: ExecRequest = ExecRequest(["true"])
  ) async throws -> ExecFailure {
    do throws(ExecFailure) {
      let process = try await transport.start(request, on: place)
      await process.cancel()
    } catch {
      return error
    }
    throw SetUpFailure(what: "it started")
  }

  private func transport(_ change: (inout SSHOptions) -> Void) async throws -> SSHTransport {
    var options = try await SSHServer.shared().options
    change(&options)
    return SSHTransport(options: options)
  }

  @Test("an unknown host key, another one and a refused key are three things, each with its remedy")
  func keys() async throws {
    let server = try await SSHServer.shared()
    let folder = try Tools.newFolder()
    try Tools.write("", to: folder + "/empty", mode: 0o600)
    let unknown = try await failure(
      transport {
        $0.hostKeys = [:]
        $0.knownHostsFile = folder + "/empty"
      })
    #expect(unknown.kind == .loginFailed)
    #expect(unknown.sentence.contains("is not known"))

    try await runTool(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder + "/other"])
    let other = Tools.read(folder + "/other.pub").split(separator: " ").prefix(2)
      .joined(separator: " ")
    let changed = try await failure(transport { $0.hostKeys = [.one: [other]] })
    #expect(changed.kind == .loginFailed)
    #expect(changed.sentence.contains("another one than expected"))

    let refused = try await failure(transport { $0.identityFile = folder + "/other" })
    #expect(refused.kind == .loginFailed)
    #expect(refused.sentence.contains("refused the key"))

    // A file of known hosts, in a place with a space.
    mkdir(folder + "/a b", 0o700)
    try Tools.write(
      "[127.0.0.1]:\(server.port) \(server.hostKey)\n", to: folder + "/a b/known", mode: 0o600)
    let known = try await transport {
      $0.hostKeys = [:]
      $0.knownHostsFile = folder + "/a b/known"
    }
    let told = await Told.all(try await known.start(ExecRequest(["echo", "hi"]), on: .node))
    #expect(told.text == "hi\n")
  }

  @Test("nobody there, no such name, no client, no key file")
  func unreachable() async throws {
    let port = try SSHServer.freePort()
    let refused = try await failure(transport { $0.port = port })
    #expect(refused.kind == .unreachable)
    #expect(refused.sentence.contains("Nothing listens"))

    let nameless = try await failure(transport { $0.hosts = [.one: "no-such-host.invalid"] })
    #expect(nameless.kind == .unreachable)

    let clientless = try await failure(transport { $0.program = "no-such-ssh" })
    #expect(clientless.kind == .unsupported)
    #expect(clientless.remedy.contains("openssh-client"))

    let keyless = try await failure(transport { $0.identityFile = "/nonexistent/key" })
    #expect(keyless.sentence.contains("identityFile"))
  }

  @Test("containers that don't run, aren't there or have no shell; a node without pct; machines")
  func containers() async throws {
    let shared = try await SSHServer.shared().transport
    #expect(try await failure(shared, .container(201)).kind == .guestNotRunning)
    #expect(try await failure(shared, .container(999)).kind == .targetNotFound)
    #expect(try await failure(shared, .container(203)).kind == .unsupported)
    #expect(try await failure(shared, .machine(100)).kind == .noTransport)

    let bare = try await SSHServer(path: ChildProgram.standardPath)
    defer { bare.stop() }
    let pctless = try await failure(bare.transport, .container(200))
    #expect(pctless.kind == .unsupported)
    #expect(pctless.sentence.contains("no 'pct'"))
  }

  @Test("one connection serves many commands, more than a connection's sessions too")
  func shared() async throws {
    let server = try await SSHServer()
    defer { server.stop() }
    let transport = server.transport
    let ends = await withTaskGroup(of: ExecEnd?.self) { group in
      for number in 0..<24 {
        group.addTask {
          guard
            let process = try? await transport.start(
              ExecRequest(.shell(Array("sleep 0.2; exit \(number)".utf8))), on: .node)
          else { return nil }
          return await Told.all(process).end
        }
      }
      var ends: [ExecEnd?] = []
      for await end in group { ends.append(end) }
      return ends
    }
    #expect(Set(ends) == Set((0..<24).map { .exited($0) }))
    #expect(server.logins == 1)
  }

  @Test("a connection that breaks midway is lost, and the next command gets a new one")
  func lost() async throws {
    let server = try await SSHServer()
    defer { server.stop() }
    let process = try await server.transport.start(
      ExecRequest(.shell(Array("echo begun; sleep 60".utf8))), on: .node)
    #expect(await process.next() == .stdout(Array("begun\n".utf8)))
    // The server's process for this connection is a child of the listener.
    for pid in Self.children(of: server.child.pid) { kill(pid, SIGKILL) }
    let told = await Told.all(process)
    guard case .lost(let why) = told.end else {
      Issue.record("\(String(describing: told.end))")
      return
    }
    #expect(why.contains("may still run"))
    #expect(told.errors == "")
    let next = await Told.all(
      try await server.transport.start(ExecRequest(["echo", "x"]), on: .node))
    #expect(next.text == "x\n")
    #expect(server.logins == 2)
  }

  @Test("a noisy login, and a shell that isn't POSIX's, are no hindrance")
  func noise() async throws {
    let server = try await SSHServer(
      configuration: """
        ForceCommand printf 'Welcome\\n\\033[31mred'; printf 'a warning' >&2; eval "$SSH_ORIGINAL_COMMAND"
        Banner /etc/passwd
        """)
    defer { server.stop() }
    let told = await Told.all(
      try await server.transport.start(
        ExecRequest(.shell(Array("printf out; printf err >&2; exit 255".utf8))), on: .node))
    #expect(told.text == "out")
    #expect(told.errors == "err")
    #expect(told.end == .exited(255))
  }

  @Test("a login that runs something else is an error, and nothing was sent to it")
  func forced() async throws {
    let server = try await SSHServer(
      configuration: "ForceCommand echo 'This account is not available'; exit 1")
    defer { server.stop() }
    let failure = try await failure(server.transport)
    #expect(failure.kind == .unreachable)
    #expect(failure.sentence.contains("not available"))
  }

  @Test("no secret is in the arguments or the environment of a process here")
  func secrets() async throws {
    let secret = "s3cret-\(RandomMark.make())"
    let server = try await SSHServer.shared()
    let process = try await server.transport.start(
      ExecRequest(
        .shell(Array("echo ready; sleep 20; : $TOKEN".utf8)),
        environment: [.init(name: Array("TOKEN".utf8), value: Array(secret.utf8))]),
      on: .container(200))
    #expect(await process.next() == .stdout(Array("ready\n".utf8)))
    var places: [String] = []
    for pid in Self.processes() {
      if Tools.read("/proc/\(pid)/cmdline").contains(secret) { places.append("\(pid)") }
    }
    #expect(places == [])
    await process.cancel()
    #expect(await Told.all(process).end == .cancelled)
  }

  @Test("a command that is cancelled has ended there too")
  func endsThere() async throws {
    let mark = RandomMark.make()
    let server = try await SSHServer.shared()
    for place in [Place.node, .container(200), .container(202)] {
      let process = try await server.transport.start(
        ExecRequest(["sh", "-c", "sleep 300 & echo ready; wait", mark]), on: place)
      #expect(await process.next() == .stdout(Array("ready\n".utf8)))
      await process.cancel()
      #expect(await Told.all(process).end == .cancelled)
      #expect(
        await happens {
          !Self.processes().contains { Tools.read("/proc/\($0)/cmdline").contains(mark) }
        })
    }
  }

  @Test("giving up before it was sent starts nothing")
  func givenUp() async throws {
    let folder = try Tools.newFolder()
    let transport = try await transport { $0.maximumPerNode = 1 }
    let first = try await transport.start(
      ExecRequest(.shell(Array("sleep 20".utf8))), on: .node)
    let second = Task { () -> ExecFailure? in
      do throws(ExecFailure) {
        _ = try await transport.start(ExecRequest(["touch", folder + "/x"]), on: .node)
        return nil
      } catch {
        return error
      }
    }
    try await Task.sleep(for: .milliseconds(100))
    second.cancel()
    #expect(await second.value?.kind == .cancelled)
    await first.cancel()
    _ = await Told.all(first)
    let third = await Told.all(try await transport.start(ExecRequest(["true"]), on: .node))
    #expect(third.end == .exited(0))
    #expect(access(folder + "/x", F_OK) != 0)
  }

  @Test("after a restart it is lost, and says so")
  func attach() async throws {
    let process = await SSHTransport(options: SSHOptions()).attach(
      ExecHandle(transport: .ssh, place: .node), from: ExecPosition())
    guard case .lost(let why) = await Told.all(process).end else {
      Issue.record("it is not lost")
      return
    }
    #expect(why.contains("may still run"))
  }

  static func processes() -> [pid_t] {
    guard let folder = opendir("/proc") else { return [] }
    defer { closedir(folder) }
    var out: [pid_t] = []
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if let pid = pid_t(name) { out.append(pid) }
    }
    return out
  }

  static func children(of parent: pid_t) -> [pid_t] {
    processes().filter { pid in
      let stat = Tools.read("/proc/\(pid)/stat")
      guard let behind = stat.lastIndex(of: ")") else { return false }
      let words = stat[stat.index(after: behind)...].split(separator: " ")
      return words.count > 1 && pid_t(words[1]) == parent
    }
  }
}
