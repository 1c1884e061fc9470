import CSallyport
import Glibc

/// A thread of its own for work that blocks (files, the database), one piece after another.
///
/// Proof of `@unchecked Sendable`: `jobs`, `isEnding` and `hasEnded` are touched with `mutex` held only; the pointers
/// are constant after `init`.
final class WorkThread: @unchecked Sendable {
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let name: String
  private var jobs: [@Sendable () -> Void] = []
  private var isEnding = false
  private var hasEnded = false

  /// Starts it.
  init(name: String) {
    self.name = name
    pthread_mutex_init(mutex, nil)
    pthread_cond_init(changed, nil)
    var thread = pthread_t()
    let me = Unmanaged.passRetained(self).toOpaque()
    let failed = pthread_create(
      &thread, nil,
      { pointer in
        guard let pointer else { return nil }
        Unmanaged<WorkThread>.fromOpaque(pointer).takeRetainedValue().work()
        return nil
      }, me)
    if failed == 0 {
      pthread_detach(thread)
    } else {
      // Without a thread the work is done by who asks for it.
      Unmanaged<WorkThread>.fromOpaque(me).release()
      hasEnded = true
    }
  }

  deinit {
    pthread_cond_destroy(changed)
    pthread_mutex_destroy(mutex)
    changed.deallocate()
    mutex.deallocate()
  }

  /// Does it later, in order.
  func run(_ job: @escaping @Sendable () -> Void) {
    pthread_mutex_lock(mutex)
    let isAlive = !hasEnded && !isEnding
    if isAlive {
      jobs.append(job)
      pthread_cond_broadcast(changed)
    }
    pthread_mutex_unlock(mutex)
    if !isAlive { job() }
  }

  /// Waits until everything is done, and ends the thread.
  func finish() {
    pthread_mutex_lock(mutex)
    isEnding = true
    pthread_cond_broadcast(changed)
    while !hasEnded { pthread_cond_wait(changed, mutex) }
    pthread_mutex_unlock(mutex)
  }

  /// Ends the thread once everything is done, without waiting for that.
  func stop() {
    pthread_mutex_lock(mutex)
    isEnding = true
    pthread_cond_broadcast(changed)
    pthread_mutex_unlock(mutex)
  }

  private func work() {
    sp_name_thread(name)
    while true {
      pthread_mutex_lock(mutex)
      while jobs.isEmpty, !isEnding { pthread_cond_wait(changed, mutex) }
      let batch = jobs
      jobs = []
      if batch.isEmpty {
        hasEnded = true
        pthread_cond_broadcast(changed)
        pthread_mutex_unlock(mutex)
        return
      }
      pthread_mutex_unlock(mutex)
      for job in batch { job() }
    }
  }
}
