import ConsoleProtocol
import Testing

@testable import ProxmoxClient

@Suite("Versions and what they can do")
struct VersionTests {
  @Test(
    "every form of a version",
    arguments: [
      ("9.2.11", PVEVersion(9, 2, 11)), ("8.4.19", PVEVersion(8, 4, 19)),
      ("7.4-20", PVEVersion(7, 4, 20)),
      ("8.0.0~8", PVEVersion(8, 0, 0)), ("6.4-15", PVEVersion(6, 4, 15)),
      ("9", PVEVersion(9, 0, 0)),
      ("9.1.9+deb13u1", PVEVersion(9, 1, 9)), ("9.1.x", PVEVersion(9, 1, 0)),
    ])
  func forms(_ text: String, _ version: PVEVersion) { #expect(PVEVersion(text) == version) }

  @Test("PVE 5 keeps the third number in the release")
  func five() { #expect(PVEVersion("5.4", release: "15") == PVEVersion(5, 4, 15)) }

  @Test("what is no version", arguments: ["", "x", "-1.2", "99999999999999999999", ".1"])
  func none(_ text: String) { #expect(PVEVersion(text) == nil) }

  /// version, guest terminals by token, node terminal by token, port-bound tickets and passwords, arrays, frames, body
  static let table: [(PVEVersion, Bool, Bool, Bool, Bool, Int, Int)] = [
    (PVEVersion(7, 4, 20), false, false, false, false, 32_768, 65_536),
    (PVEVersion(8, 0, 3), false, false, false, true, 32_768, 65_536),
    (PVEVersion(8, 4, 18), false, false, false, true, 131_072, 524_288),
    (PVEVersion(8, 4, 19), true, false, true, true, 131_072, 524_288),
    (PVEVersion(8, 4, 21), true, false, true, true, 131_072, 524_288),
    (PVEVersion(9, 0, 0), false, false, false, true, 131_072, 524_288),
    (PVEVersion(9, 0, 13), false, true, false, true, 131_072, 524_288),
    (PVEVersion(9, 1, 8), false, true, false, true, 131_072, 524_288),
    (PVEVersion(9, 1, 9), true, true, true, true, 131_072, 524_288),
    (PVEVersion(9, 2, 11), true, true, true, true, 131_072, 524_288),
    (PVEVersion(10, 0, 0), true, true, true, true, 131_072, 524_288),
  ]

  @Test("the eras", arguments: table)
  func eras(
    _ version: PVEVersion, _ guestTerminals: Bool, _ nodeTerminal: Bool, _ hardened: Bool,
    _ arrays: Bool,
    _ frame: Int, _ body: Int
  ) {
    let can = version.capabilities
    #expect(can.tokensOpenGuestTerminals == guestTerminals)
    #expect(can.tokensOpenNodeTerminal == nodeTerminal)
    #expect(can.ticketBoundToPort == hardened)
    #expect(can.answersCarryPassword == hardened)
    #expect(can.arraysInForms == arrays)
    #expect(can.maximumFrame == frame)
    #expect(can.bodyLimit == body)
    #expect(can.tokensOpenGuestVNC && !can.tokensOpenNodeVNC)
  }

  @Test("a ticket opens everything, a token what its version lets it")
  func access() throws {
    let new = PVEVersion(9, 2, 11)
    let id = try #require(VMID(100))
    for console in Console.allCases {
      #expect(
        ConsoleAccess.refusal(of: console, on: .qemu(id), to: .ticket, version: PVEVersion(7, 0))
          == nil)
      #expect(ConsoleAccess.refusal(of: console, on: .qemu(id), to: .token, version: new) == nil)
    }
    let shell = ConsoleAccess.refusal(of: .vnc, on: .node, to: .token, version: new)
    #expect(shell?.remedy.contains("consoleCredential") == true)
    let old = ConsoleAccess.refusal(
      of: .terminal, on: .lxc(id), to: .token, version: PVEVersion(8, 4, 18))
    #expect(old?.reason.contains("8.4.18") == true)
    #expect(old?.remedy.contains("9.1.9") == true && old?.remedy.contains("8.4.19") == true)
    #expect(
      ConsoleAccess.refusal(of: .vnc, on: .lxc(id), to: .token, version: PVEVersion(7, 4)) == nil)
    let node = ConsoleAccess.refusal(
      of: .terminal, on: .node, to: .token, version: PVEVersion(8, 4, 21))
    #expect(node?.remedy.contains("9.0.13") == true)
    let long = String(repeating: "x", count: 60) + "@pve!t"
    #expect(
      ConsoleAccess.refusal(of: .terminal, on: .lxc(id), to: .token, identity: long, version: new)
        != nil)
    #expect(
      ConsoleAccess.refusal(of: .vnc, on: .lxc(id), to: .token, identity: long, version: new) == nil
    )
  }

  @Test("the version is asked once per host, by a hundred callers at once too")
  func onceAtATime() async throws {
    let server = try ScriptedServer { _, connection in
      connection.sleep(0.2)
      connection.answer(Fixture("version"))
    }
    let client = client(server)
    try await withThrowingTaskGroup(of: PVEVersion.self) { group in
      for _ in 0..<100 { group.addTask { try await client.version() } }
      for try await version in group { #expect(version == PVEVersion(9, 2, 11)) }
    }
    _ = try await client.version()
    #expect(server.requests.count == 1)
    client.shutdown()
  }
}
