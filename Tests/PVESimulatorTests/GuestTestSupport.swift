import Synchronization

@testable import PVESimulator

/// What a call came to, without HTTP around it.
struct Outcome: Sendable {
  var status = 200
  var message = ""
  var fields: [String: String] = [:]
  var data: JSON = .null
  var total: Int?

  init(_ result: APIResult) {
    data = Outcome.tree(result.data)
    total = result.total
  }

  init(_ error: APIError) {
    status = error.status
    message = error.message
    for field in error.fields { fields[field.name] = field.text }
  }

  /// What was written as bytes is read again.
  private static func tree(_ json: JSON) -> JSON { (try? JSONReader.read(json.bytes)) ?? .null }

  /// The row of a list that has a member with this value.
  func row(_ key: String, _ value: JSON) -> JSON? { data.items.first { $0[key] == value } }
}

private final class LateOutcome: Sendable {
  let value = Mutex<Outcome?>(nil)
}

extension Simulator {
  /// A call, run as `perform` does it for HTTP.
  func perform(
    _ method: String, _ path: String, _ form: [String: String] = [:], as user: String = "root@pam",
    node: String? = nil
  ) async -> Outcome {
    let late = LateOutcome()
    let now = await onCluster(or: nil) { cluster -> Outcome? in
      guard let node = node.flatMap(cluster.node(named:)) ?? cluster.nodes.first else { return nil }
      var parameters = Parameters()
      for (name, value) in form { parameters.set(name, .text(value)) }
      do throws(APIError) {
        let result = try node.perform(
          APICall(
            method: method, path: path, identity: Identity(authID: user), parameters: parameters))
        guard let begin = result.later else { return Outcome(result) }
        begin { answer in
          let outcome: Outcome
          switch answer {
          case .success(let result): outcome = Outcome(result)
          case .failure(let error): outcome = Outcome(error)
          }
          late.value.withLock { $0 = outcome }
        }
        return nil
      } catch {
        return Outcome(error)
      }
    }
    if let now { return now }
    for _ in 0..<2000 {
      if let outcome = late.value.withLock({ $0 }) { return outcome }
      try? await Task.sleep(for: .milliseconds(5))
    }
    return Outcome(.died("no answer"))
  }

  /// How a task ended, once it has.
  func ending(_ upid: String) async -> String {
    for _ in 0..<2000 {
      let exit = await onCluster(or: nil) { cluster in
        cluster.nodes.lazy.compactMap { $0.tasks[upid] }.first?.exitStatus
      }
      if let exit { return exit }
      try? await Task.sleep(for: .milliseconds(5))
    }
    return "it did not end"
  }

  /// A call that begins a task: the task's exit status, or the refusal.
  func task(
    _ method: String, _ path: String, _ form: [String: String] = [:], as user: String = "root@pam",
    node: String? = nil
  ) async -> String {
    let outcome = await perform(method, path, form, as: user, node: node)
    guard outcome.status == 200 else {
      let fields = outcome.fields.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
      return ([outcome.message] + fields).joined(separator: "; ")
    }
    guard let upid = outcome.data.asText, upid.hasPrefix("UPID:") else { return "no task" }
    return await ending(upid)
  }

  /// A task's log.
  func log(of upid: String) async -> [String] {
    await onCluster(or: []) { cluster in
      cluster.nodes.lazy.compactMap { $0.tasks[upid] }.first?.log ?? []
    }
  }

  /// A guest's configuration as it is used now.
  func config(_ path: String) async -> JSON {
    await perform("GET", "\(path)/config", ["current": "1"]).data
  }

  /// `running`, `stopped` or `paused`.
  func state(_ path: String) async -> String? {
    let data = await perform("GET", "\(path)/status/current").data
    return data["qmpstatus"]?.asText ?? data["status"]?.asText
  }

  /// Puts a lock on a guest, as a task would.
  func lock(_ vmid: Int, _ lock: String?) async {
    await onCluster(or: ()) { $0.guests[vmid]?.config.lock = lock }
  }
}

/// A cluster whose tasks take a moment.
func withQuickNode<R: Sendable>(
  _ change: (inout SimulatorConfiguration) -> Void = { _ in },
  _ body: (Simulator) async throws -> R
) async throws -> R {
  try await withNode(
    {
      $0.timings.task = .milliseconds(2)
      change(&$0)
    }, body)
}

let vm100 = "/nodes/pve1/qemu/100"
let vm102 = "/nodes/pve1/qemu/102"
let ct200 = "/nodes/pve1/lxc/200"
let ct201 = "/nodes/pve1/lxc/201"
