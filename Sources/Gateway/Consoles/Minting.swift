import ConsoleDial
import ConsoleProtocol
import EventLoop
import ProxmoxClient
import Synchronization

/// How a granted console is checked and minted.
extension ConsoleBroker {
  func mint(
    _ grant: Grant, size: (columns: Int, rows: Int)?, attempt: Int
  ) async throws(Ending) -> MintedConsole {
    guard let cluster = clusters[grant.cluster] else {
      throw Ending(
        hop: .gateway, kind: .apiUnreachable,
        sentence: "The cluster '\(grant.cluster)' is no longer configured.",
        remedy: "Ask for a new link.")
    }
    let place = try await findAndCheck(grant, on: cluster)
    // PVE has one VNC password per VM: from here to the end of the login nobody else may mint for it.
    let turn = try await orEnding { () throws(PVEError) in
      try await cluster.client.turn(for: grant.console, of: place)
    }
    let plan = try await orEnding { () throws(PVEError) in
      try await cluster.ask { client throws(PVEError) in
        try await client.mint(
          grant.console, of: place,
          size: size.map { ScreenSize(columns: $0.columns, rows: $0.rows) })
      }
    }
    do throws(LoopError) {
      let addresses = try await SocketAddress.resolve(host: plan.host, port: plan.port)
      let tls = try plan.tls.map { policy throws(LoopError) in try context(for: policy) }
      // A session that forgets its turn must not lock the VM's screen for ever.
      let guardian = Task {
        try? await Task.sleep(for: .seconds(20))
        turn.end()
      }
      return MintedConsole(
        plan: plan, addresses: addresses, tls: tls, place: place,
        loginOver: {
          guardian.cancel()
          turn.end()
        })
    } catch {
      turn.end()
      reaper.add(plan.upid, of: cluster)
      throw Ending(
        hop: .gateway, kind: .apiUnreachable, sentence: "\(error).",
        remedy: "Check the cluster's hosts and tls in the configuration.")
    }
  }

  /// Where the target is, after seeing that the console can be opened there.
  private func findAndCheck(_ grant: Grant, on cluster: Cluster) async throws(Ending) -> Place {
    let place = try await orEnding { () throws(PVEError) in
      try await cluster.ask { client throws(PVEError) in try await client.resolve(grant.target) }
    }
    do throws(Refusal) {
      try await check(grant.console, of: place, on: cluster)
      return place
    } catch {
      switch error {
      case .ending(let ending): throw ending
      case .notThere: break
      }
    }
    // The look at the cluster may have been a few seconds old, and the guest moved meanwhile.
    let now = try await orEnding { () throws(PVEError) in
      _ = try await cluster.client.inventory()
      return try await cluster.client.resolve(grant.target)
    }
    do throws(Refusal) {
      try await check(grant.console, of: now, on: cluster)
      return now
    } catch {
      switch error {
      case .ending(let ending): throw ending
      case .notThere:
        throw Ending(
          hop: .guest, kind: .guestNotFound, sentence: "\(now) does not exist on node \(now.node).",
          remedy: "It was removed or is being migrated; look at the inventory.")
      }
    }
  }

  private enum Refusal: Error {
    case ending(Ending)
    case notThere
  }

  /// PVE mints and upgrades for stopped guests and for missing serial ports too, and fails without a word afterwards; so
  /// both are asked first. Who may open a console need not be allowed to look (VM.Audit): then the check is left out.
  private func check(
    _ console: Console, of place: Place, on cluster: Cluster
  ) async throws(Refusal) {
    guard console.isAvailable(on: place.kind) else {
      throw .ending(Self.noSuchConsole(console, of: place))
    }
    guard place.vmid != nil else { return }
    async let askedStatus = cluster.result { client throws(PVEError) in
      try await client.guestStatus(place)
    }
    let needsConfiguration: Bool
    if case .qemu = place.kind { needsConfiguration = true } else { needsConfiguration = false }
    var configuration: GuestConfiguration?
    if needsConfiguration {
      configuration = try Self.known(
        await cluster.result { client throws(PVEError) in
          try await client.guestConfiguration(place)
        })
    }
    if let status = try Self.known(await askedStatus), !status.isRunning {
      throw .ending(Diagnosis.notRunning(Self.text(place), status: status.status))
    }
    guard let configuration, !configuration.has(console, on: place.kind) else { return }
    guard console.isTerminal else {
      throw .ending(
        Ending(
          hop: .guest, kind: .noSuchConsole,
          sentence: "\(Self.text(place)) has no display (vga: none).",
          remedy: "Open its terminal on a serial port, or give it a display."))
    }
    throw .ending(
      Diagnosis.noSerial(Self.text(place), console: console, has: configuration.serialPorts))
  }

  /// An answer, nil where we may not look, and an error for the rest.
  private static func known<T>(_ result: Result<T, PVEError>) throws(Refusal) -> T? {
    switch result {
    case .success(let value): return value
    case .failure(let error):
      switch error.kind {
      case .forbidden, .notImplemented, .locked: return nil
      case .guestNotFound, .nodeNotFound: throw .notThere
      default: throw .ending(error.consoleEnding)
      }
    }
  }

  static func noSuchConsole(_ console: Console, of place: Place) -> Ending {
    Ending(
      hop: .gateway, kind: .noSuchConsole, sentence: "\(place) has no console '\(console)'.",
      remedy: "Serial ports belong to VMs; containers and nodes have 'terminal' and 'vnc'.")
  }

  /// `qemu/100 (web1)`
  static func text(_ place: Place) -> String {
    guard place.vmid != nil, let name = place.name else { return place.description }
    return "\(place) (\(name))"
  }

  private func orEnding<T>(
    _ body: () async throws(PVEError) -> T
  ) async throws(Ending) -> T {
    do throws(PVEError) {
      return try await body()
    } catch {
      throw error.consoleEnding
    }
  }
}

extension Cluster {
  /// The same as ``ask(_:)``, for parallel calls.
  func result<T: Sendable>(
    _ call: (ProxmoxClient) async throws(PVEError) -> T
  ) async -> Result<T, PVEError> {
    do throws(PVEError) {
      return .success(try await ask(call))
    } catch {
      return .failure(error)
    }
  }
}

extension PVEError {
  /// As the end of a console: with both fingerprints where a certificate is the matter, and in the words of the
  /// configuration file where a credential is.
  var consoleEnding: Ending {
    switch kind {
    case .tlsUntrusted(let expected, let seen):
      return Diagnosis.untrusted(
        expected: expected, seen: seen, reason: message, host: host ?? "")
    case .tokenUnsupported:
      var out = ending
      out.remedy = out.remedy.replacing(
        "as consoleCredential", with: "as the cluster's consoleUser in the configuration")
      return out
    default: return ending
    }
  }
}
