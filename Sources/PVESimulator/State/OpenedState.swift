/// A state file that was opened for a start, with what it held.
struct OpenedState: Sendable {
  let file: StateFile
  /// Where the file is opened, written and closed.
  let thread: WorkThread
  /// Nil for a new file.
  let identity: ClusterIdentity?
  /// What it held, by kind, in the order of the ids.
  let documents: [StateKind: [(id: String, document: JSON)]]

  /// Opens a file and reads it, on a thread of its own. Nil where no file is wanted.
  static func open(_ path: String?) async throws(SimulatorError) -> OpenedState? {
    guard let path else { return nil }
    let thread = WorkThread(name: "state")
    let outcome: Result<OpenedState, StateFailure> = await withCheckedContinuation { done in
      thread.run {
        do throws(StateFailure) {
          done.resume(returning: .success(try read(path, thread)))
        } catch {
          done.resume(returning: .failure(error))
        }
      }
    }
    switch outcome {
    case .success(let state): return state
    case .failure(let failure):
      thread.stop()
      throw .state(failure.description)
    }
  }

  private static func read(_ path: String, _ thread: WorkThread) throws(StateFailure)
    -> OpenedState
  {
    let file = try StateFile(path: path)
    var documents: [StateKind: [(id: String, document: JSON)]] = [:]
    for (key, body) in try file.load() {
      let document: JSON
      do throws(JSONReader.Malformed) {
        document = try JSONReader.read(body)
      } catch {
        file.close()
        throw .damaged(path, why: "\(key.kind.rawValue) '\(key.id)' is no JSON (\(error.message))")
      }
      documents[key.kind, default: []].append((key.id, document))
    }
    guard !documents.isEmpty else {
      return OpenedState(file: file, thread: thread, identity: nil, documents: [:])
    }
    guard
      let found = documents[.meta]?.first(where: { $0.id == ClusterIdentity.id }),
      let identity = ClusterIdentity(found.document)
    else {
      file.close()
      throw .damaged(path, why: "it doesn't say what cluster it is of")
    }
    return OpenedState(file: file, thread: thread, identity: identity, documents: documents)
  }

  /// Puts what the file holds in the place of what the configuration says.
  func adopt(into configuration: inout SimulatorConfiguration) throws(SimulatorError) {
    do throws(StateFailure) {
      try identity?.adopt(into: &configuration, path: file.path)
    } catch {
      throw .state(error.description)
    }
  }

  /// Documents of a kind.
  func all(_ kind: StateKind) -> [(id: String, document: JSON)] { documents[kind] ?? [] }

  /// A document.
  func one(_ kind: StateKind, _ id: String) -> JSON? { all(kind).first { $0.id == id }?.document }

  /// Lets go of the file again, without a cluster.
  func close() async {
    await withCheckedContinuation { done in
      thread.run { [file] in
        file.close()
        done.resume()
      }
    }
    thread.stop()
  }
}
