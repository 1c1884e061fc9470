import Testing

@testable import PVESimulator

@Suite("The journal")
struct JournalTests {
  private func entry(_ path: String) -> Journal.Entry {
    Journal.Entry(time: 1, method: "GET", path: path)
  }

  @Test("it keeps the newest, in order, with numbers that go on")
  func ring() {
    let journal = Journal()
    for i in 1...(Journal.capacity + 25) { journal.add(entry("/\(i)")) }
    let all = journal.entries
    #expect(all.count == Journal.capacity)
    #expect(all.first?.number == 26 && all.first?.path == "/26")
    #expect(all.last?.number == Journal.capacity + 25)
    #expect(zip(all, all.dropFirst()).allSatisfy { $0.number + 1 == $1.number })
    #expect(journal.entries(since: Journal.capacity + 23).map(\.path) == ["/10024", "/10025"])
    #expect(journal.entries(since: 0, limit: 2).map(\.number) == [26, 27])
    journal.clear()
    #expect(journal.entries.isEmpty)
    #expect(journal.add(entry("/x")) == Journal.capacity + 26)
    #expect(journal.entries.map(\.path) == ["/x"])
  }

  @Test("a websocket's end is written into its entry, while that is there")
  func websockets() {
    let journal = Journal()
    let number = journal.add(entry("/ws"))
    journal.end(
      number, Journal.Websocket(bytesIn: 3, bytesOut: 4, duration: .seconds(1), ending: "client"))
    #expect(journal.entries.first?.websocket?.bytesOut == 4)
    for _ in 0...Journal.capacity { journal.add(entry("/")) }
    journal.end(number, Journal.Websocket())
    journal.end(999_999_999, Journal.Websocket())
    #expect(journal.entries.allSatisfy { $0.websocket == nil })
  }

  @Test("of parameters it knows names and counts, and values of harmless ones only")
  func arguments() throws {
    let parameters = try Parameters(
      json: Array(
        #"{"vmid":100,"command":["/bin/sh","-c","echo s3cret"],"password":"123456","node":"pve1","x":{"y":1}}"#
          .utf8))
    let arguments = Journal.Argument.list(parameters)
    #expect(arguments.map(\.name) == ["vmid", "command", "password", "node", "x"])
    #expect(arguments.map(\.count) == [1, 3, 1, 1, 1])
    #expect(arguments.map(\.value) == ["100", nil, nil, "pve1", nil])
  }

  @Test("a body in the wrong encoding arrives as a name, and is not shown")
  func bodiesAsNames() {
    let parameters = Parameters(form: #"{"username":"root@pam","password":"hunter2"}"#.utf8)
    let arguments = Journal.Argument.list(parameters)
    #expect(arguments.map(\.name) == ["?"])
    let ticket = Parameters(form: "username=PVE:root@pam:65432100::c2lnbmF0dXJl".utf8)
    #expect(Journal.Argument.list(ticket).map(\.value) == [nil])
  }

  @Test("reason phrases don't repeat what the client sent")
  func reasons() {
    let parameters = Parameters(form: "password=hunter2&node=pve1".utf8)
    #expect(
      Journal.redacted("value 'hunter2' on pve1 is wrong", hiding: parameters)
        == "value '…' on pve1 is wrong")
    #expect(
      Journal.redacted(
        "malformed JSON string, at character offset 0 (before \"hunter2...\") at x",
        hiding: Parameters())
        == "malformed JSON string, at character offset 0 …")
  }
}
