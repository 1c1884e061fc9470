import ConsoleProtocol
import Testing

@testable import GuestExec

@Suite("What a command may be")
struct ExecRequestTests {
  @Test("what no transport could carry is refused by the field's name")
  func refused() {
    func field(_ request: ExecRequest) -> String? {
      do throws(ExecFailure) {
        try request.check()
        return nil
      } catch {
        #expect(error.kind == .badRequest)
        #expect(!error.remedy.isEmpty)
        return error.field
      }
    }
    #expect(field(ExecRequest([])) == "argv")
    #expect(field(ExecRequest([""])) == "argv")
    #expect(field(ExecRequest(["echo", "a\0b"])) == "argv[1]")
    #expect(field(ExecRequest(.shell([]))) == "shell")
    #expect(field(ExecRequest(.argv([[120]]), directory: Array("tmp".utf8))) == "directory")
    #expect(field(ExecRequest(.argv([[120]]), user: "-x")) == "user")
    #expect(field(ExecRequest(.argv([[120]]), timeLimit: .zero)) == "timeLimit")
    #expect(field(ExecRequest(.argv([[120]]), outputLimit: -1)) == "outputLimit")
    #expect(
      field(ExecRequest(.argv([[120]]), environment: [.init(name: Array("a=b".utf8), value: [])]))
        == "environment")
    #expect(field(ExecRequest(.argv([[120], Array(repeating: 97, count: 200_000)]))) == "argv")
    // Bytes that are no text, and empty arguments, are arguments.
    #expect(field(ExecRequest(.argv([[120], [], [0xFF, 0xFE, 10]]))) == nil)
  }

  @Test("a quoted word is the same word to dash")
  func quoting() {
    #expect(ShellQuoting.quoted(Array("it's".utf8)) == Array(#"'it'\''s'"#.utf8))
    #expect(ShellQuoting.line([Array("a b".utf8), []]) == Array("'a b' ''".utf8))
    #expect(ShellQuoting.isVariableName(Array("_A1".utf8)))
    #expect(!ShellQuoting.isVariableName(Array("1A".utf8)))
    #expect(!ShellQuoting.isVariableName(Array("a.b".utf8)))
  }
}

@Suite("The queue of events")
struct EventQueueTests {
  @Test("events come in order, and nothing after the end")
  func order() async {
    let queue = EventQueue()
    queue.put(.stdout([1]))
    queue.put(.stderr([2]))
    queue.put(.ended(ExecResult(.exited(3))))
    queue.put(.stdout([4]))
    #expect(await queue.next() == .stdout([1]))
    #expect(await queue.next() == .stderr([2]))
    #expect(await queue.next() == .ended(ExecResult(.exited(3))))
    #expect(await queue.next() == nil)
  }

  @Test("a producer waits while the queue is full, and goes on when it is not")
  func bound() async {
    let queue = EventQueue(limit: 10)
    let producer = Task {
      for n in 0..<100 { await queue.putWaiting(.stdout(Array(repeating: UInt8(n), count: 6))) }
      queue.put(.ended(ExecResult(.exited(0))))
    }
    var got = 0
    while let event = await queue.next() {
      guard case .stdout(let bytes) = event else { break }
      #expect(bytes.first == UInt8(got))
      got += 1
    }
    #expect(got == 100)
    await producer.value
  }

  @Test("whoever waits can be cancelled, and loses nothing")
  func cancelled() async {
    let queue = EventQueue()
    let waiting = Task { await queue.next() }
    try? await Task.sleep(for: .milliseconds(20))
    waiting.cancel()
    #expect(await waiting.value == nil)
    queue.put(.stdout([7]))
    #expect(await queue.next() == .stdout([7]))
  }
}
