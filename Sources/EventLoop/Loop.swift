import CLibwebsockets
import CSallyport
import Glibc
import HeapModule
import Synchronization

/// One event loop: a thread, a libwebsockets context that serves HTTP and websockets on it, and everything else
/// that is polled beside it (raw streams, listeners, timers, work from other threads).
///
/// libwebsockets polls its own connections. Everything else stands in one private `epoll` set whose descriptor is
/// adopted into libwebsockets as a raw file, so that both are served by one wait and there is no second thread.
///
/// Streams, listeners and websockets belong to the loop that made them and are touched on its thread only;
/// ``execute(_:)`` is the way in for everybody else.
///
/// Proof of `@unchecked Sendable`: `mailbox` is a mutex, `threadID` an atomic, `wakeDescriptor` is constant after
/// `init` and only written to (an eventfd takes writes from any thread). `inside` is touched by the loop's own
/// thread alone, from `run()` on; before that, by the thread that creates it.
public final class Loop: @unchecked Sendable {
  /// Something polled in the private epoll set.
  protocol Pollable: AnyObject {
    /// Descriptor events (EPOLLIN …) arrived.
    func ready(_ events: UInt32)
    /// The loop ends: close now.
    func loopEnds()
  }

  /// What only the loop's thread touches.
  struct Inside {
    var context: OpaquePointer?
    var vhost: OpaquePointer?
    var epoll: Int32 = -1
    var timerDescriptor: Int32 = -1
    var slots: [(generation: UInt32, item: (any Pollable)?)] = []
    var freeSlots: [Int] = []
    var timers = Heap<TimerEntry>()
    var timerOrder: UInt64 = 0
    var armedFor: Duration?
    var later: [() -> Void] = []
    var stopping = false
    var http: LoopHTTP?
  }

  /// The position of this loop in its group.
  public let index: Int
  var inside = Inside()
  /// Read buffer shared by all streams of the loop; reads begin at `readOffset`, so that a frame header can be
  /// written in front of the bytes.
  let readBuffer: UnsafeMutableRawPointer
  /// Room for whatever a callback has to put together before it writes: 160 KiB, shared by the loop, so its content
  /// is gone when the callback returns.
  public let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 160 << 10, alignment: 64)
  static let readOffset = 256
  static let readSize = 64 * 1024
  private let wakeDescriptor: Int32
  private let threadID = Atomic<UInt>(0)
  private let mailbox = Mutex<(jobs: [@Sendable () -> Void], closed: Bool)>(([], false))
  private let finished = Mutex<Bool>(false)
  private static let creation = Mutex<Void>(())

  /// The most bytes that a request's head may have: a Kubernetes client sends a command's arguments in the address. The
  /// room is taken when a request begins and given back when its head was read.
  static let maximumHead = 60 << 10

  init(index: Int) throws(LoopError) {
    self.index = index
    readBuffer = .allocate(byteCount: Loop.readOffset + Loop.readSize + 1024, alignment: 64)
    wakeDescriptor = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))
    guard wakeDescriptor >= 0 else { throw .last("eventfd", on: "a new loop") }
    inside.epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
    guard inside.epoll >= 0 else { throw .last("epoll_create1", on: "a new loop") }
    inside.timerDescriptor = sp_timer_create()
    guard inside.timerDescriptor >= 0 else { throw .last("timerfd_create", on: "a new loop") }
    try createContext()
    try addToEpoll(wakeDescriptor, key: Loop.wakeKey)
    try addToEpoll(inside.timerDescriptor, key: Loop.timerKey)
  }

  deinit {
    readBuffer.deallocate()
    scratch.deallocate()
  }

  // MARK: From any thread

  /// Runs a job on the loop's thread, in order. After shutdown the job is dropped.
  public func execute(_ job: @escaping @Sendable () -> Void) {
    let wake = mailbox.withLock { box in
      guard !box.closed else { return false }
      box.jobs.append(job)
      return box.jobs.count == 1
    }
    if wake { self.wake() }
  }

  /// Whether the caller is on the loop's thread.
  public var isInLoop: Bool { threadID.load(ordering: .relaxed) == UInt(pthread_self()) }

  /// Monotonic time since an arbitrary start, the same for all loops.
  public var now: Duration { Loop.monotonic }

  static var monotonic: Duration {
    var t = timespec()
    clock_gettime(CLOCK_MONOTONIC, &t)
    return .seconds(t.tv_sec) + .nanoseconds(t.tv_nsec)
  }

  // MARK: On the loop's thread

  /// Runs `body` on this loop after a time. Loop thread only.
  @discardableResult
  public func schedule(after delay: Duration, _ body: @escaping () -> Void) -> LoopTimer {
    let timer = LoopTimer(deadline: now + delay, body: body)
    inside.timerOrder &+= 1
    inside.timers.insert(
      TimerEntry(deadline: timer.deadline, order: inside.timerOrder, timer: timer))
    armTimer()
    return timer
  }

  /// Runs `body` once the current event has been dealt with. Loop thread only.
  func later(_ body: @escaping () -> Void) {
    inside.later.append(body)
    if inside.later.count == 1 { wake() }
  }

  // MARK: Polling

  private static let wakeKey: UInt64 = .max
  private static let timerKey: UInt64 = .max - 1

  private func addToEpoll(_ descriptor: Int32, key: UInt64) throws(LoopError) {
    var event = epoll_event()
    event.events = EPOLLIN.rawValue
    event.data.u64 = key
    guard epoll_ctl(inside.epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 else {
      throw .last("epoll_ctl", on: "descriptor \(descriptor)")
    }
  }

  /// Adds a descriptor to the set. Returns its key, which is never reused while events of it may be queued.
  func poll(_ descriptor: Int32, events: UInt32, item: any Pollable) throws(LoopError) -> UInt64 {
    let slot: Int
    if let free = inside.freeSlots.popLast() {
      slot = free
      inside.slots[slot].item = item
    } else {
      slot = inside.slots.count
      inside.slots.append((0, item))
    }
    let key = UInt64(inside.slots[slot].generation) << 32 | UInt64(slot)
    var event = epoll_event()
    event.events = events
    event.data.u64 = key
    guard epoll_ctl(inside.epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 else {
      let error = LoopError.last("epoll_ctl", on: "descriptor \(descriptor)")
      release(slot)
      throw error
    }
    return key
  }

  /// Changes what a descriptor is polled for. For nothing (0) it leaves the set, because `epoll` reports a hang-up
  /// whether asked or not, and a paused stream would spin on it.
  func repoll(_ descriptor: Int32, key: UInt64, events: UInt32) {
    if events == 0 {
      epoll_ctl(inside.epoll, EPOLL_CTL_DEL, descriptor, nil)
      return
    }
    var event = epoll_event()
    event.events = events
    event.data.u64 = key
    if epoll_ctl(inside.epoll, EPOLL_CTL_MOD, descriptor, &event) != 0 {
      epoll_ctl(inside.epoll, EPOLL_CTL_ADD, descriptor, &event)
    }
  }

  /// Takes a descriptor out of the set; it may be closed afterwards.
  func unpoll(_ descriptor: Int32, key: UInt64) {
    epoll_ctl(inside.epoll, EPOLL_CTL_DEL, descriptor, nil)
    release(Int(key & 0xffff_ffff))
  }

  private func release(_ slot: Int) {
    inside.slots[slot].generation &+= 1
    inside.slots[slot].item = nil
    inside.freeSlots.append(slot)
  }

  private func wake() {
    var one: UInt64 = 1
    _ = write(wakeDescriptor, &one, 8)
  }

  /// Serves what is ready in the private set. Called by libwebsockets when the set's descriptor is readable.
  func dispatch() {
    withUnsafeTemporaryAllocation(of: epoll_event.self, capacity: 64) { events in
      let count = epoll_wait(inside.epoll, events.baseAddress, 64, 0)
      guard count > 0 else { return }
      for i in 0..<Int(count) {
        let key = events[i].data.u64
        switch key {
        case Loop.wakeKey:
          var n: UInt64 = 0
          _ = read(wakeDescriptor, &n, 8)
          runMailbox()
        case Loop.timerKey:
          var n: UInt64 = 0
          _ = read(inside.timerDescriptor, &n, 8)
          inside.armedFor = nil
          runTimers()
        default:
          let slot = Int(key & 0xffff_ffff)
          guard slot < inside.slots.count, inside.slots[slot].generation == UInt32(key >> 32),
            let item = inside.slots[slot].item
          else { continue }
          item.ready(events[i].events)
        }
      }
    }
    runLater()
  }

  private func runMailbox() {
    let jobs = mailbox.withLock { box in
      let jobs = box.jobs
      box.jobs = []
      return jobs
    }
    for job in jobs { job() }
  }

  private func runLater() {
    // Bodies may add more; those run in the next turn, so that a chain of them can't starve the descriptors.
    let bodies = inside.later
    guard !bodies.isEmpty else { return }
    inside.later = []
    for body in bodies { body() }
    if !inside.later.isEmpty { wake() }
  }

  private func runTimers() {
    let time = now
    while let first = inside.timers.min, first.deadline <= time || !first.timer.isPending {
      _ = inside.timers.popMin()
      if let body = first.timer.body {
        first.timer.body = nil
        body()
      }
    }
    armTimer()
  }

  private func armTimer() {
    guard let first = inside.timers.min else { return }
    if let armed = inside.armedFor, armed <= first.deadline { return }
    inside.armedFor = first.deadline
    let wait = max(first.deadline - now, .nanoseconds(1)).components
    let nanoseconds =
      UInt64(wait.seconds) * 1_000_000_000 + UInt64(wait.attoseconds / 1_000_000_000)
    _ = sp_timer_arm(inside.timerDescriptor, max(1, nanoseconds))
  }

  // MARK: The thread

  private func createContext() throws(LoopError) {
    // Contexts are created one at a time: libwebsockets and OpenSSL set up process-wide state in there.
    let made: (OpaquePointer?, OpaquePointer?) = Loop.creation.withLock { _ in
      lws_set_log_level(Int32(LLL_ERR), lwsLog)
      var info = lws_context_creation_info()
      // CONTEXT_PORT_NO_LISTEN. libwebsockets chooses a virtual host by port and Host header, also where nothing
      // listens: with the port of the HTTP server's (-2) this one would get its requests.
      info.port = -1
      info.protocols = UnsafePointer(loopProtocols)
      info.options =
        UInt64(LWS_SERVER_OPTION_EXPLICIT_VHOSTS) | UInt64(LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT)
      info.user = Unmanaged.passUnretained(self).toOpaque()
      info.pt_serv_buf_size = UInt32(2 * Loop.readSize + 512)
      info.max_http_header_data2 = UInt32(Loop.maximumHead)
      info.max_http_header_pool = 512
      info.gid = -1
      info.uid = -1
      guard let context = lws_create_context(&info) else { return (nil, nil) }
      info.vhost_name = nil
      guard let vhost = lws_create_vhost(context, &info) else {
        lws_context_destroy(context)
        return (nil, nil)
      }
      return (context, vhost)
    }
    guard let context = made.0, let vhost = made.1 else {
      throw .system(call: "lws_create_context", on: "loop \(index)", reason: "see the log")
    }
    inside.context = context
    inside.vhost = vhost
    var descriptor = lws_sock_file_fd_type()
    // The adopted descriptor is closed by libwebsockets; ours stays with us.
    descriptor.filefd = dup(inside.epoll)
    guard
      "loop".withCString({ name in
        lws_adopt_descriptor_vhost(vhost, LWS_ADOPT_RAW_FILE_DESC, descriptor, name, nil)
      }) != nil
    else { throw .system(call: "lws_adopt_descriptor", on: "the epoll set", reason: "refused") }
  }

  func run() {
    threadID.store(UInt(pthread_self()), ordering: .relaxed)
    sp_name_thread("loop-\(index)")
    while !inside.stopping {
      if lws_service(inside.context, 0) < 0 { break }
    }
    end()
  }

  /// Asks the thread to stop; ``LoopGroup`` waits for it.
  func stop() {
    execute { self.inside.stopping = true }
  }

  private func end() {
    mailbox.withLock { box in
      box.closed = true
      box.jobs = []
    }
    for slot in inside.slots.indices {
      if let item = inside.slots[slot].item { item.loopEnds() }
    }
    var rounds = 0
    while !inside.later.isEmpty, rounds < 100 {
      runLater()
      rounds += 1
    }
    Loop.creation.withLock { _ in
      if let context = inside.context { lws_context_destroy(context) }
    }
    inside.context = nil
    while inside.timers.popMin() != nil {}
    inside.http?.loopEnded()
    inside.http = nil
    close(inside.epoll)
    close(inside.timerDescriptor)
    close(wakeDescriptor)
  }
}

/// A loop-bound value as other threads see it: they may hand it work, and can't touch it.
///
/// Proof of `@unchecked Sendable`: `value` is only reachable inside ``execute(_:)``, which runs on the loop's
/// thread; the reference itself is constant.
public struct OnLoop<Value>: @unchecked Sendable {
  private let value: Value
  /// The loop to which the value belongs.
  public let loop: Loop

  /// Wraps a value that belongs to a loop. Call it on that loop's thread.
  public init(_ value: Value, loop: Loop) {
    self.value = value
    self.loop = loop
  }

  /// Runs `body` with the value on its loop.
  public func execute(_ body: @escaping @Sendable (Value) -> Void) {
    loop.execute { body(value) }
  }
}

/// The raw-file callback of the private epoll set.
private func loopCallback(
  _ wsi: OpaquePointer?, _ reason: lws_callback_reasons, _ user: UnsafeMutableRawPointer?,
  _ bytes: UnsafeMutableRawPointer?, _ length: Int
) -> Int32 {
  if reason == LWS_CALLBACK_RAW_RX_FILE, let loop = Loop.of(wsi) { loop.dispatch() }
  return 0
}

/// What libwebsockets has to say goes to standard error; it names no request data at this level.
private func lwsLog(_ level: Int32, _ line: UnsafePointer<CChar>?) {
  if let line { _ = write(2, line, strlen(line)) }
}

extension Loop {
  /// The loop that a connection of libwebsockets belongs to.
  static func of(_ wsi: OpaquePointer?) -> Loop? {
    guard let wsi, let context = lws_get_context(wsi), let user = lws_context_user(context) else {
      return nil
    }
    return Unmanaged<Loop>.fromOpaque(user).takeUnretainedValue()
  }
}

/// The protocol table of a loop's own virtual host; libwebsockets keeps the pointer for ever.
///
/// Proof of `nonisolated(unsafe)`: written once by the initialiser, which Swift runs under a lock, and read-only
/// afterwards.
private nonisolated(unsafe) let loopProtocols: UnsafeMutablePointer<lws_protocols> = {
  let table = UnsafeMutablePointer<lws_protocols>.allocate(capacity: 2)
  table.initialize(repeating: lws_protocols(), count: 2)
  table[0].name = UnsafePointer(strdup("loop"))
  table[0].callback = loopCallback
  return table
}()
