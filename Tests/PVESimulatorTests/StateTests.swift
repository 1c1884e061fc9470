import ConsoleProtocol
import Glibc
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("State over restarts, from Swift")
  struct StateTests {
    @Test("keys, tickets, users and guests live on; what ends with the process doesn't end with it")
    func restart() async throws {
      try await withFolder { folder in
        let path = "\(folder)/state"
        let (fingerprint, ticket, password) = try await withNode({ $0.stateFile = path }) { pve in
          let root = try await pve.login()
          #expect(
            try await pve.call(
              "POST", "/access/users", ["userid": "bob@pve", "password": "long enough"], as: root
            ).status == 200)
          await pve.stopGuest(101)
          return (pve.fingerprint, root, pve.rootPassword)
        }
        try await withNode({ $0.stateFile = path }) { pve in
          #expect(pve.fingerprint == fingerprint)
          #expect(pve.rootPassword == password)
          #expect(try await pve.call("GET", "/version", as: ticket).status == 200)
          let bob = try await pve.call(
            "POST", "/access/ticket", ["username": "bob@pve", "password": "long enough"])
          #expect(bob.status == 200)
          let rows = try await pve.call("GET", "/cluster/resources?type=vm", as: ticket).data.items
          let states = rows.reduce(into: [Int: JSON]()) {
            $0[$1["vmid"]?.number ?? 0] = $1["status"]
          }
          #expect(
            states == [
              100: "running", 101: "stopped", 102: "stopped", 200: "running", 201: "stopped",
            ])
          await pve.reset()
          #expect(pve.rootPassword == password)
          #expect(try await pve.call("GET", "/version", as: ticket).status == 200)
          let gone = try await pve.call(
            "POST", "/access/ticket", ["username": "bob@pve", "password": "long enough"])
          #expect(gone.status == 401)
        }
        try await withNode({
          $0.stateFile = path
          $0.rootPassword = Secret("another one")
        }) { pve in
          #expect(pve.rootPassword == Secret("another one"))
          _ = try await pve.login()
          let rows = try await pve.call("GET", "/cluster/resources?type=vm", as: ticket).data.items
          #expect(rows.first { $0["vmid"] == 101 }?["status"] == "running")
        }
      }
    }

    @Test("two at once, and a start that fails, leave the file free again")
    func exclusive() async throws {
      try await withFolder { folder in
        let path = "\(folder)/state"
        try await withNode({ $0.stateFile = path }) { pve in
          await #expect(throws: SimulatorError.self) {
            try await withNode({ $0.stateFile = path }) { _ in }
          }
          let alive = try await pve.call("GET", "/version", as: .token(pve))
          #expect(alive.status == 200)
        }
        await #expect(throws: SimulatorError.self) {
          try await withNode({
            $0.stateFile = path
            $0.faults = ["node-down=nobody"]
          }) { _ in }
        }
        try await withNode({ $0.stateFile = path }) { _ in }
      }
    }

    @Test("an answer to a write comes when the write is in the file")
    func durable() async throws {
      try await withFolder { folder in
        let path = "\(folder)/state"
        try await withNode({ $0.stateFile = path }) { pve in
          let token = TestCredential.token(pve)
          for i in 1...20 {
            let user = "u\(i)@pve"
            #expect(
              try await pve.call("POST", "/access/users", ["userid": user], as: token).status
                == 200)
            // What is on the disk now is what a killed process leaves.
            let image = "\(folder)/image"
            put(contents(path) ?? [], image)
            put(contents("\(path)-wal") ?? [], "\(image)-wal")
            let file = try StateFile(path: image)
            let users = try file.load().first { $0.key.kind == .access && $0.key.id == "users" }
            let text = String(decoding: users?.body ?? [], as: UTF8.self)
            #expect(text.contains(user))
            file.close()
          }
        }
      }
    }

    @Test("a state that can't be written is an error for who writes, and for nobody else")
    func fullDisk() async throws {
      try await withFolder { folder in
        let path = "\(folder)/state"
        try await withNode({ $0.stateFile = path }) { pve in
          let token = TestCredential.token(pve)
          #expect(
            try await pve.call("POST", "/access/users", ["userid": "a@pve"], as: token).status
              == 200)
          // Somebody else holds SQLite's own lock for longer than a writer waits.
          let blocker = try Blocker(path)
          let refused = try await pve.call("POST", "/access/users", ["userid": "b@pve"], as: token)
          #expect(refused.status == 500 && refused.reason.hasPrefix("unable to save"))
          #expect(try await pve.call("GET", "/version", as: token).status == 200)
          blocker.end()
          #expect(
            try await pve.call("POST", "/access/users", ["userid": "c@pve"], as: token).status
              == 200)
        }
        try await withNode({ $0.stateFile = path }) { pve in
          let users = try await pve.call("GET", "/access/users", as: .token(pve)).data.items
            .compactMap { $0["userid"]?.asText }
          // What was not saved at first is saved with the next write.
          #expect(Set(users).isSuperset(of: ["a@pve", "b@pve", "c@pve"]))
        }
      }
    }
  }
}

/// Another process that has a write transaction open.
private final class Blocker {
  private let pid: pid_t
  private var input: Int32 = -1

  init(_ path: String) throws {
    var ends: [Int32] = [0, 0]
    var output: [Int32] = [0, 0]
    guard pipe(&ends) == 0, pipe(&output) == 0 else { throw ClientFailure(description: "no pipe") }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
    posix_spawn_file_actions_adddup2(&actions, output[1], 1)
    posix_spawn_file_actions_addclose(&actions, ends[1])
    let script = """
      import sqlite3, sys
      c = sqlite3.connect(sys.argv[1], isolation_level=None)
      c.execute('begin immediate')
      print('held', flush=True)
      sys.stdin.read()
      """
    let words: [String] = ["python3", "-c", script, path]
    let arguments = words.map { strdup($0) } + [nil]
    var child: pid_t = 0
    let failed = posix_spawnp(&child, "python3", &actions, nil, arguments, nil)
    for argument in arguments { free(argument) }
    posix_spawn_file_actions_destroy(&actions)
    close(ends[0])
    close(output[1])
    guard failed == 0 else { throw ClientFailure(description: "no python3") }
    pid = child
    input = ends[1]
    var byte: UInt8 = 0
    let n = read(output[0], &byte, 1)
    close(output[0])
    guard n == 1 else { throw ClientFailure(description: "not held") }
  }

  func end() {
    close(input)
    var status: Int32 = 0
    waitpid(pid, &status, 0)
  }
}
