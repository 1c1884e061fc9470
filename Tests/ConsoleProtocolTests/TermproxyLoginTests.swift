import Testing

@testable import ConsoleProtocol

@Suite struct TermproxyLoginTests {
  static func run(_ chunks: [[UInt8]]) -> (TermproxyLogin.Event, rest: [UInt8]) {
    var login = TermproxyLogin(line: Secret("root@pam:PVEVNC:1::x\n"))
    var event = TermproxyLogin.Event.needMore
    var rest: [UInt8] = []
    for chunk in chunks {
      chunk.withUnsafeBytes { buffer in
        var position = 0
        if event == .needMore { event = login.next(buffer, &position) }
        rest.append(contentsOf: buffer[position...])
      }
    }
    return (event, rest)
  }

  @Test("the line goes out as it is")
  func line() {
    #expect(
      TermproxyLogin(line: Secret("root@pam:PVEVNC:1::x\n")).lineBytes()
        == Array("root@pam:PVEVNC:1::x\n".utf8))
  }

  @Test("OK glued to output is taken at any cut, and the output stays")
  func glued() {
    for chunks in allCuts(Array("OKREADY\r\n".utf8)) {
      let (event, rest) = Self.run(chunks)
      #expect(event == .loggedIn)
      #expect(rest == Array("READY\r\n".utf8))
    }
    #expect(Self.run([[79], [75]]).0 == .loggedIn)
  }

  @Test("half an OK is not an answer yet, anything else is garbage")
  func others() {
    #expect(Self.run([]).0 == .needMore)
    #expect(Self.run([[79]]).0 == .needMore)
    #expect(Self.run([[79], [79]]).0 == .garbage(79))
    #expect(Self.run([Array("ok".utf8)]).0 == .garbage(0x6f))
    #expect(Self.run([Array("RFB".utf8)]).0 == .garbage(0x52))
  }
}
