import CLibcurl
import CSallyport
import Synchronization

#if canImport(Glibc)
  import Glibc
#endif

/// HTTP on libcurl: one multi handle on one thread, so that connections, names and TLS sessions are shared without
/// locks. A transport serves one TLS policy per host; it never mixes connections of two policies.
final class CurlTransport: Sendable {
  private let core: CurlCore

  /// Starts the thread.
  init(maximumConnections: Int) {
    core = CurlCore(maximumConnections: maximumConnections)
    core.start()
  }

  deinit { core.post(.stop) }

  /// Ends every transfer and the thread. Later requests fail at once.
  func shutdown() { core.post(.stop) }

  /// Sends one request and waits for its whole answer. Cancelling the Swift task closes the transfer's connection.
  func send(_ request: HTTPRequest) async -> Result<HTTPAnswer, TransportFailure> {
    // Once the start is posted, a request is on its way before a cancellation can be.
    guard !Task.isCancelled else { return .failure(.cancelled) }
    let id = core.newID()
    return await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        core.post(.start(id, request, continuation))
        // A cancellation that came before the start was posted found nothing to end.
        if Task.isCancelled { core.post(.cancel(id)) }
      }
    } onCancel: {
      core.post(.cancel(id))
    }
  }
}

/// The thread's side of a transport.
///
/// `@unchecked Sendable`: `multi` and `transfers` are touched by the thread only. The exceptions are
/// `curl_multi_wakeup`, which libcurl allows from any thread and which is called under `inbox`'s lock with `stopped`
/// unset, and the last `curl_multi_cleanup`, which comes after `stopped` was set under that lock.
final class CurlCore: @unchecked Sendable {
  typealias Continuation = CheckedContinuation<Result<HTTPAnswer, TransportFailure>, Never>

  enum Job: Sendable {
    case start(UInt64, HTTPRequest, Continuation)
    case cancel(UInt64)
    case stop
  }

  private struct Inbox {
    var jobs: [Job] = []
    var stopped = false
    var lastID: UInt64 = 0
  }

  private let inbox = Mutex(Inbox())
  private let multi: UnsafeMutableRawPointer?
  private var transfers: [UInt64: Transfer] = [:]

  /// libcurl's process-wide set-up, once.
  private static let ready: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

  init(maximumConnections: Int) {
    multi = Self.ready ? curl_multi_init() : nil
    guard let multi else { return }
    _ = sp_curl_multi_set_long(multi, CURLMOPT_MAX_HOST_CONNECTIONS, max(1, maximumConnections))
    _ = sp_curl_multi_set_long(multi, CURLMOPT_MAXCONNECTS, max(4, maximumConnections))
  }

  func newID() -> UInt64 {
    inbox.withLock { inbox in
      inbox.lastID += 1
      return inbox.lastID
    }
  }

  /// Hands a job to the thread, from any thread, in order.
  func post(_ job: Job) {
    let accepted = inbox.withLock { inbox in
      guard !inbox.stopped, let multi else { return false }
      inbox.jobs.append(job)
      curl_multi_wakeup(multi)
      return true
    }
    if !accepted, case .start(_, _, let continuation) = job {
      continuation.resume(returning: .failure(.shutDown))
    }
  }

  /// Starts the thread, which keeps the core alive until it was told to stop.
  func start() {
    guard multi != nil else { return }
    var thread = pthread_t()
    let me = Unmanaged.passRetained(self)
    guard pthread_create(&thread, nil, runCurl, me.toOpaque()) == 0 else {
      me.release()
      inbox.withLock { $0.stopped = true }
      return
    }
    pthread_detach(thread)
  }

  fileprivate func run() {
    guard let multi else { return }
    // OpenSSL writes without MSG_NOSIGNAL; a signal would go to this thread and end the process.
    var all = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, nil)
    while true {
      let jobs = inbox.withLock { inbox in
        defer { inbox.jobs = [] }
        return inbox.jobs
      }
      for job in jobs {
        switch job {
        case .start(let id, let request, let continuation): begin(id, request, continuation)
        case .cancel(let id): finish(id, .failure(.cancelled))
        case .stop: return stop()
        }
      }
      var running: Int32 = 0
      curl_multi_perform(multi, &running)
      collect()
      // libcurl shortens this to its own next timer.
      curl_multi_poll(multi, nil, 0, 60_000, nil)
    }
  }

  private func begin(_ id: UInt64, _ request: HTTPRequest, _ continuation: Continuation) {
    guard let multi, let transfer = Transfer(id: id, request: request, continuation: continuation)
    else {
      return continuation.resume(
        returning: .failure(
          TransportFailure(kind: .connectFailed, message: "libcurl has no memory"))
      )
    }
    if let failure = transfer.configure() {
      return continuation.resume(returning: .failure(failure))
    }
    guard curl_multi_add_handle(multi, transfer.easy) == CURLM_OK else {
      return continuation.resume(
        returning: .failure(
          TransportFailure(kind: .connectFailed, message: "libcurl is out of handles"))
      )
    }
    transfers[id] = transfer
  }

  private func collect() {
    guard let multi else { return }
    var left: Int32 = 0
    while let message = curl_multi_info_read(multi, &left) {
      guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else {
        continue
      }
      let code = message.pointee.data.result
      var tag: UnsafeMutableRawPointer?
      _ = sp_curl_get_pointer(easy, CURLINFO_PRIVATE, &tag)
      let id = UInt64(UInt(bitPattern: tag))
      guard let transfer = transfers[id] else { continue }
      finish(id, transfer.outcome(code))
    }
  }

  private func finish(_ id: UInt64, _ outcome: Result<HTTPAnswer, TransportFailure>) {
    guard let transfer = transfers.removeValue(forKey: id) else { return }
    if let multi { curl_multi_remove_handle(multi, transfer.easy) }
    transfer.continuation.resume(returning: outcome)
  }

  private func stop() {
    let rest = inbox.withLock { inbox in
      inbox.stopped = true
      defer { inbox.jobs = [] }
      return inbox.jobs
    }
    for id in Array(transfers.keys) { finish(id, .failure(.shutDown)) }
    for case .start(_, _, let continuation) in rest {
      continuation.resume(returning: .failure(.shutDown))
    }
    if let multi { curl_multi_cleanup(multi) }
  }
}

/// The thread's entry: a function of its own, because a closure formed on the main actor traps on another thread.
private func runCurl(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let argument else { return nil }
  Unmanaged<CurlCore>.fromOpaque(argument).takeRetainedValue().run()
  return nil
}

extension TransportFailure {
  static let cancelled = TransportFailure(kind: .cancelled, message: "cancelled")
  static let shutDown = TransportFailure(kind: .shutDown, message: "the client is shut down")
}
