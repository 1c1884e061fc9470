import CSallyport
import Glibc
import Testing

@testable import PVESimulator

extension NodeTests {
  @Suite("Containers as process trees with a root of their own, and pct and qm")
  struct RoomTests {
    static let hasWalls = if case .namespaces = RoomAbility.here { true } else { false }

    @Test(
      "a container has its own name, processes, network and files",
      .enabled(if: RoomTests.hasWalls, "the kernel gives no namespaces"))
    func isolation() async throws {
      try await withNode { pve in
        let text = try await pve.terminal("/lxc/200", as: .token(pve)) { terminal in
          _ = try terminal.read(upTo: "root@ct200:")
          try terminal.type(
            "echo name=$(hostname) first=$(tr '\\0' ' ' </proc/1/cmdline)"
              + " nets=$(ls /sys/class/net 2>/dev/null | tr '\\n' ' ')"
              + " user=$(whoami) home=$HOME etc=$(cat /etc/hostname) tty=$(tty); "
              + "touch /usr/x; echo 1 >/proc/sys/vm/drop_caches; echo kept >/root/note; echo done-$((1+1))\n"
          )
          return try terminal.read(upTo: "done-2\r\n")
        }
        #expect(text.contains("name=ct200 first=/sbin/init "))
        #expect(text.contains("nets=lo user=root home=/root etc=ct200 tty=/dev/pts/0"))
        #expect(text.contains("touch: cannot touch '/usr/x': Read-only file system"))
        #expect(text.contains("/proc/sys/vm/drop_caches: Read-only file system"))
        #expect(access("/root/note", F_OK) != 0)
        // Another container sees none of it; the same one keeps it over a restart.
        await pve.startGuest(201)
        await pve.stopGuest(200)
        await pve.startGuest(200)
        for (id, expected) in [(201, "No such file"), (200, "kept")] {
          try await pve.terminal("/lxc/\(id)", as: .token(pve)) { terminal in
            try terminal.type("cat /root/note\n")
            _ = try terminal.read(upTo: expected)
          }
        }
      }
    }

    @Test("what runs in a container outlives its consoles and dies with the container")
    func life() async throws {
      try await withNode { pve in
        let token = TestCredential.token(pve)
        try await pve.terminal("/lxc/200", as: token) { terminal in
          _ = try terminal.read(upTo: "root@ct200:")
          try terminal.type("sleep 4711 & echo began-$((1+1))\n")
          _ = try terminal.read(upTo: "began-2")
        }
        // The shell says that it forked; what it forked becomes `sleep` a little later.
        for _ in 0..<500 where RoomTests.sleepers(4711) == 0 {
          try await Task.sleep(for: .milliseconds(20))
        }
        #expect(RoomTests.sleepers(4711) == 1)
        try await pve.terminal("/lxc/200", as: token) { terminal in
          try terminal.type("jobs\n")
          _ = try terminal.read(upTo: "sleep 4711")
        }
        await pve.stopGuest(200)
        for _ in 0..<100 where RoomTests.sleepers(4711) > 0 {
          try await Task.sleep(for: .milliseconds(20))
        }
        #expect(RoomTests.sleepers(4711) == 0)
      }
    }

    /// Processes `sleep N` of this machine.
    private static func sleepers(_ n: Int) -> Int {
      guard let directory = opendir("/proc") else { return 0 }
      defer { closedir(directory) }
      var count = 0
      while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        guard pid_t(name) != nil, let file = fopen("/proc/\(name)/cmdline", "r") else { continue }
        var bytes = [UInt8](repeating: 0, count: 64)
        let got = fread(&bytes, 1, 64, file)
        fclose(file)
        if bytes.prefix(got).elementsEqual("sleep\0\(n)\0".utf8) { count += 1 }
      }
      return count
    }

    @Test("a node shell's pct and qm: lists, power, and texts for what isn't there")
    func tools() async throws {
      try await withNode { pve in
        let root = try await pve.login()
        try await pve.terminal("", as: root) { shell in
          func run(_ line: String, _ marker: String) throws -> String {
            // The quotes keep the marker out of the typed line's echo.
            try shell.type("\(line); echo \(marker)-$?-e''nd\n")
            return try shell.read(upTo: "-end\r\n")
          }
          _ = try shell.read(upTo: "root@pve1:")
          // Wide enough that no typed line is broken.
          try shell.send("1:400:50:")
          let containers = try run("pct list", "a")
          #expect(containers.contains("VMID       Status     Lock         Name"))
          #expect(containers.contains("200        running                 ct200"))
          #expect(
            try run("qm list", "b").contains("       100 web1                 running    2048"))
          #expect(try run("pct status 201", "c").contains("status: stopped\r\nc-0-end"))
          #expect(try run("pct start 201; pct status 201", "d").contains("status: running"))
          #expect(try run("pct start 201", "e").contains("CT 201 already running\r\ne-255-end"))
          #expect(
            try run("pct stop 201; pct exec 201 -- true", "f").contains(
              "container '201' not running!\r\nf-255-end"))
          #expect(try run("pct exec 200 --", "g").contains("missing command\r\ng-255-end"))
          #expect(
            try run("pct exec 999 -- true", "h").contains(
              "Configuration file 'nodes/pve1/lxc/999.conf' does not exist\r\nh-255-end"))
          #expect(try run("pct exec 200 -- sh -c 'exit 7'", "i").contains("i-7-end"))
          #expect(try run("pct exec 200 -- sh -c 'kill -9 $$'", "j").contains("j-137-end"))
          #expect(try run("pct exec 200 -- nope", "k").contains("k-127-end"))
          #expect(try run("pct exec x -- true", "l").contains("400 Parameter verification failed."))
        }
      }
    }

    @Test("pct exec passes words and bytes exactly")
    func exactness() async throws {
      try await withNode { pve in
        let folder = try #require(await pve.toolsFolder())
        let words = ["", "a b", "'\"$(id)`x`", "two\nlines", "--", "-x", "*", "é€", "\\n", " "]
        let out = try await RoomTests.start(
          ["\(folder)/pct", "exec", "200", "--", "printf", "%s|"] + words)
        #expect(out.0 == words.map { $0 + "|" }.joined())
        #expect(out.1 == 0)
        let bytes = (0..<200_000).map { SimulatedTerminal.patternByte(at: $0) }
        let file = "\(folder)/input"
        let descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        close(descriptor)
        let sum = try await RoomTests.start([
          "/bin/sh", "-c",
          "\"$0\" exec 200 -- cat <\"$1\" | cmp - \"$1\" && echo same", "\(folder)/pct", file,
        ])
        #expect(sum.0 == "same\n")
        let streams = try await RoomTests.start([
          "/bin/sh", "-c",
          "\"$0\" exec 200 -- sh -c 'echo out; echo err >&2; exit 5' 2>/dev/null; echo $?",
          "\(folder)/pct",
        ])
        #expect(streams.0 == "out\n5\n")
        let environment = try await RoomTests.start([
          "/bin/sh", "-c",
          "A=b \"$0\" exec 200 -- sh -c 'echo $A $container $HOME'; A=b \"$0\" exec 200 --keep-env 0 "
            + "-- sh -c 'echo $A $container'",
          "\(folder)/pct",
        ])
        #expect(
          environment.0 == (RoomTests.hasWalls ? "b lxc /root\nlxc\n" : environment.0))
        let json = try await RoomTests.start([
          "\(folder)/qm", "guest", "exec", "100", "--", "/bin/sh", "-c", "echo \"$0\"; exit 3",
          "a b",
        ])
        #expect(
          json.0
            == "{\n   \"exitcode\" : 3,\n   \"exited\" : 1,\n   \"out-data\" : \"a b\\n\",\n"
            + "   \"out-truncated\" : 0\n}\n")
        #expect(json.1 == 0)
      }
    }

    /// Output and exit status of a program of this machine.
    private static func start(_ words: [String]) async throws -> (String, Int32) {
      try await blocking {
        var reading: Int32 = -1
        var writing: Int32 = -1
        guard sp_pipe(&reading, &writing) == 0 else { throw ClientFailure(description: "no pipe") }
        let command = Command(
          path: words[0], arguments: words, environment: ["PATH": Shells.path, "TERM": "dumb"])
        let result = command.spawn(in: 0, out: writing, err: 2, terminal: false)
        close(writing)
        defer { close(reading) }
        guard case .success(let pid) = result else {
          throw ClientFailure(description: "\(words[0]) didn't start")
        }
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
          let n = read(reading, &chunk, chunk.count)
          if n <= 0 { break }
          all += chunk.prefix(n)
        }
        var status: Int32 = 0
        waitpid(pid, &status, 0)
        return (String(decoding: all, as: UTF8.self), sp_exit_status(status))
      }
    }
  }
}
