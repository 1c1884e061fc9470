import EventLoop

/// The durable state, as the loop sees it: documents go in at once, and an answer that follows from them goes out when
/// they are in the file.
///
/// Writes are gathered: while one transaction is under way, everything that comes joins the next. What one turn of the
/// loop saves is in one transaction, so a request's changes are kept together or not at all.
final class StateStore {
  private let loop: Loop
  private let file: StateFile
  private let thread: WorkThread
  /// What goes into the next transaction.
  private var pending: [StateFile.Key: JSON?] = [:]
  /// Whether the next transaction empties the file first.
  private var emptyFirst = false
  private var isWriting = false
  private var isScheduled = false
  /// Who waits for what is pending, and for what is being written.
  private var waiting: [(StateFailure?) -> Void] = []
  private var writing: [(StateFailure?) -> Void] = []
  /// What a transaction that failed held: it goes with the next.
  private var unsaved: [StateFile.Key: JSON?] = [:]
  /// Why the last transaction failed; nil when it didn't.
  private(set) var failure: StateFailure?
  /// How many transactions there were.
  private(set) var commits = 0

  /// - Parameter thread: where the file is opened, written and closed.
  init(loop: Loop, file: StateFile, thread: WorkThread) {
    self.loop = loop
    self.file = file
    self.thread = thread
  }

  var path: String { file.path }

  /// Whether something isn't in the file yet.
  var isDirty: Bool { isWriting || !pending.isEmpty || emptyFirst }

  /// Keeps a document, or forgets it.
  func save(_ kind: StateKind, _ id: String, _ document: JSON?) {
    pending[StateFile.Key(kind: kind, id: id)] = .some(document)
    schedule()
  }

  /// Forgets everything that was saved before.
  func eraseAll() {
    pending = [:]
    unsaved = [:]
    emptyFirst = true
    schedule()
  }

  /// Calls when all that was saved until now is in the file, or couldn't be written.
  func whenCommitted(_ body: @escaping (StateFailure?) -> Void) {
    if !pending.isEmpty || emptyFirst {
      waiting.append(body)
      write()
    } else if isWriting {
      writing.append(body)
    } else {
      body(nil)
    }
  }

  /// Writes what is left and closes the file. Blocks; the loop ends anyway.
  func close() {
    let documents = pending
    let erase = emptyFirst
    pending = [:]
    emptyFirst = false
    thread.run { [file] in
      // There is nobody left to tell.
      if !documents.isEmpty || erase { try? file.write(documents, emptyFirst: erase) }
      file.close()
    }
    thread.finish()
  }

  private func schedule() {
    guard !isScheduled, !isWriting else { return }
    isScheduled = true
    // Not at once: more of the same request may follow in this turn.
    loop.schedule(after: .zero) { [weak self] in
      self?.isScheduled = false
      self?.write()
    }
  }

  private func write() {
    guard !isWriting, !pending.isEmpty || emptyFirst else { return }
    isWriting = true
    let documents = unsaved.merging(pending) { $1 }
    let erase = emptyFirst
    pending = [:]
    unsaved = [:]
    emptyFirst = false
    writing = waiting
    waiting = []
    let me = OnLoop(self, loop: loop)
    thread.run { [file] in
      var failure: StateFailure?
      do throws(StateFailure) {
        try file.write(documents, emptyFirst: erase)
      } catch {
        failure = error
      }
      let outcome = failure
      me.execute { $0.wrote(documents, erased: erase, outcome) }
    }
  }

  private func wrote(_ documents: [StateFile.Key: JSON?], erased: Bool, _ outcome: StateFailure?) {
    isWriting = false
    failure = outcome
    commits += 1
    if outcome != nil {
      unsaved = documents
      if erased { emptyFirst = true }
    }
    let done = writing
    writing = []
    for body in done { body(outcome) }
    if !pending.isEmpty { write() }
  }
}
