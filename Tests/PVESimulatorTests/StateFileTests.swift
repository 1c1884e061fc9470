import Glibc
import Testing

@testable import PVESimulator

/// A folder for one test, gone afterwards.
func withFolder<R>(_ body: (String) async throws -> R) async throws -> R {
  var template = Array("/tmp/sallyport-test-XXXXXX".utf8CString)
  guard mkdtemp(&template) != nil else { throw ClientFailure(description: "no folder") }
  let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  defer {
    if let names = opendir(folder) {
      while let entry = readdir(names) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
          $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { unlink("\(folder)/\(name)") }
      }
      closedir(names)
    }
    rmdir(folder)
  }
  return try await body(folder)
}

/// A file's bytes; nil where there is none.
func contents(_ path: String) -> [UInt8]? {
  let descriptor = open(path, O_RDONLY)
  guard descriptor >= 0 else { return nil }
  defer { close(descriptor) }
  var all: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 65_536)
  while true {
    let n = read(descriptor, &chunk, chunk.count)
    guard n > 0 else { return all }
    all += chunk.prefix(n)
  }
}

func put(_ bytes: [UInt8], _ path: String) {
  let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
  _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
  close(descriptor)
}

@Suite("State files")
struct StateFileTests {
  private func key(_ id: String) -> StateFile.Key { .init(kind: .guest, id: id) }

  /// What opening says, or nil where it works.
  private func complaint(_ path: String) -> String? {
    do throws(StateFailure) {
      try StateFile(path: path).close()
      return nil
    } catch {
      return error.description
    }
  }

  @Test(
    "documents are kept, replaced and forgotten; the file is its owner's alone and one file at the end"
  )
  func documents() async throws {
    try await withFolder { folder in
      let path = "\(folder)/state"
      var file: StateFile? = try StateFile(path: path)
      #expect(try file?.load().isEmpty == true)
      try file?.write([key("100"): ["a": 1], key("101"): ["b": "ä\u{0}"], key("102"): []])
      try file?.write([key("100"): ["a": 2], key("102"): Optional<JSON>.none])
      file?.close()
      file = nil
      var info = stat()
      #expect(stat(path, &info) == 0 && info.st_mode & 0o777 == 0o600)
      #expect(access("\(path)-wal", F_OK) != 0)
      let again = try StateFile(path: path)
      let all = try again.load()
      #expect(all.map(\.key.id) == ["100", "101"])
      #expect(
        all.map { String(decoding: $0.body, as: UTF8.self) } == [
          #"{"a":2}"#, "{\"b\":\"ä\\u0000\"}",
        ])
      again.close()
    }
  }

  @Test("what was committed is there after the process died at any moment")
  func crashImage() async throws {
    try await withFolder { folder in
      let path = "\(folder)/state"
      let image = "\(folder)/image"
      let file = try StateFile(path: path)
      for i in 1...30 {
        try file.write([key("\(i)"): ["n": .int(i)]])
        // What a killed process leaves behind is what is in its files.
        put(contents(path) ?? [], image)
        put(contents("\(path)-wal") ?? [], "\(image)-wal")
        let revived = try StateFile(path: image)
        #expect(try revived.load().count == i)
        revived.close()
      }
      file.close()
    }
  }

  @Test("one user at a time, in this process and in others")
  func exclusive() async throws {
    try await withFolder { folder in
      let path = "\(folder)/state"
      var file: StateFile? = try StateFile(path: path)
      #expect(complaint(path) == "\(path) is in use by another simulated node")
      symlink(path, "\(folder)/link")
      #expect(complaint("\(folder)/link") == "\(folder)/link is in use by another simulated node")
      file?.close()
      file = nil
      #expect(complaint(path) == nil)
      // Another process that has the lock.
      let descriptor = open(path, O_RDWR)
      flock(descriptor, LOCK_EX)
      #expect(complaint(path) == "\(path) is in use by another simulated node")
      close(descriptor)
      #expect(complaint(path) == nil)
    }
  }

  @Test("an empty file counts as none")
  func empty() async throws {
    try await withFolder { folder in
      put([], "\(folder)/state")
      #expect(complaint("\(folder)/state") == nil)
      #expect(contents("\(folder)/state")?.isEmpty == false)
    }
  }

  @Test("foreign and broken files are refused and stay as they are, byte for byte")
  func foreign() async throws {
    try await withFolder { folder in
      let good = "\(folder)/good"
      let file = try StateFile(path: good)
      try file.write(
        Dictionary(uniqueKeysWithValues: (0..<8000).map { (key("\($0)"), .some(["n": .int($0)])) }))
      file.close()
      let bytes = try #require(contents(good))
      #expect(bytes.count > 20 * 4096)

      func refused(_ name: String, _ change: (inout [UInt8]) -> Void, _ why: String) {
        let path = "\(folder)/\(name)"
        var changed = bytes
        change(&changed)
        put(changed, path)
        let said = complaint(path)
        #expect(said?.hasPrefix("\(path) \(why)") == true, "\(name): \(said ?? "accepted")")
        #expect(said?.contains("\n") != true)
        let isUntouched = contents(path) == changed
        #expect(isUntouched, "\(name) was changed")
        #expect(access("\(path)-wal", F_OK) != 0 && access("\(path)-shm", F_OK) != 0)
      }
      refused(
        "text", { $0 = Array("hello\n".utf8) }, "is no state of a simulated node: it is no SQLite")
      refused("short", { $0.removeLast($0.count - 50) }, "is damaged: it ends in its header")
      refused("other", { $0[68] = 0 }, "is no state of a simulated node: it is another program's")
      refused(
        "later", { $0[63] = 9 }, "was written by a later version of this program (its format is 9)")
      refused("half", { $0.removeLast($0.count / 2) }, "is damaged: ")
      refused("page", { for i in 8192..<12_288 { $0[i] = 0x5A } }, "is damaged: ")
      refused("schema", { for i in 100..<4096 { $0[i] = 0 } }, "is damaged: ")
      #expect(complaint(good) == nil)
    }
  }

  @Test("a damaged file that a dead process left with its log stays as it is, log and all")
  func damagedWithLog() async throws {
    try await withFolder { folder in
      let path = "\(folder)/state"
      let image = "\(folder)/image"
      let file = try StateFile(path: path)
      try file.write(
        Dictionary(uniqueKeysWithValues: (0..<8000).map { (key("\($0)"), .some(["n": .int($0)])) }))
      file.close()
      let again = try StateFile(path: path)
      try again.write([key("x"): ["y": 1]])
      var bytes = try #require(contents(path))
      let log = try #require(contents("\(path)-wal"))
      #expect(!log.isEmpty)
      for i in 20_480..<24_576 { bytes[i] = 0x5A }
      put(bytes, image)
      put(log, "\(image)-wal")
      #expect(complaint(image)?.hasPrefix("\(image) is damaged: ") == true)
      let isUntouched = contents(image) == bytes && contents("\(image)-wal") == log
      #expect(isUntouched)
      again.close()
    }
  }

  @Test("what is no file, or can't be one, is said")
  func places() async throws {
    try await withFolder { folder in
      #expect(complaint(folder) == "\(folder) is a folder, not a file")
      #expect(complaint("/dev/null") == "/dev/null is a device, pipe or socket, not a file")
      let nowhere = "\(folder)/no/state"
      #expect(complaint(nowhere) == "\(nowhere) can't be used: No such file or directory")
      #expect(complaint("/proc/sallyport")?.hasPrefix("/proc/sallyport can't be used: ") == true)
    }
  }
}
