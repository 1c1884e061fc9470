/// Faults, from the program that runs the simulator.
///
/// ```swift
/// let id = try await pve.inject("latency=200ms,jitter=50ms,path=/nodes/*")
/// try await pve.inject(Fault(.status(596, message: "Broken pipe"), when: .nth(3, path: "*/agent/exec")))
/// …
/// await pve.clearFaults()
/// ```
extension Simulator {
  /// A fault that was injected, and what came of it.
  public struct InjectedFault: Sendable, Hashable {
    /// Its id.
    public let id: String
    /// The fault.
    public let fault: Fault
    /// How many requests fitted its trigger.
    public let matched: Int
    /// How many met it, or how often it happened.
    public let applied: Int
    /// Whether it is a condition that holds.
    public let holds: Bool
  }

  /// Adds a fault and gives its id. A condition or happening without a trigger is there when this returns.
  /// - Throws: ``FaultError`` for a node or guest that there isn't, or a second fault of that id.
  @discardableResult
  public func inject(_ fault: Fault) async throws(FaultError) -> String {
    let outcome: Result<String, FaultError> = await onCluster(
      or: .failure(FaultError("the simulator is shut down"))
    ) { cluster in
      do throws(FaultError) {
        return .success(try cluster.faults.add(fault).id)
      } catch {
        return .failure(error)
      }
    }
    return try outcome.get()
  }

  /// The faults, in the order in which they were injected.
  public var faults: [InjectedFault] {
    get async {
      await onCluster(or: []) { cluster in
        cluster.faults.records.map {
          InjectedFault(
            id: $0.id, fault: $0.fault, matched: $0.matched, applied: $0.applied,
            holds: $0.holding != nil)
        }
      }
    }
  }

  /// Takes a fault away; what it holds ends. False where there is none of that id.
  @discardableResult
  public func removeFault(_ id: String) async -> Bool {
    await onCluster(or: false) { $0.faults.remove(id) }
  }

  /// Takes all faults away. Odds begin anew: from another seed where one is given.
  public func clearFaults(seed: UInt64? = nil) async {
    await onCluster(or: ()) { $0.faults.clear(seed: seed) }
  }

  /// Puts the cluster back as it was at the start: guests, tasks, users, faults, quirks, clock and journal. Consoles
  /// end. Credentials, certificates and keys stay.
  public func reset() async { await onCluster(or: ()) { $0.reset() } }

  /// What `GET /simulator` says, as JSON text.
  public func report() async -> String { await onCluster(or: "{}") { $0.control.report.text } }
}
