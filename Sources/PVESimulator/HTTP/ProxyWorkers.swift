/// One of a node's pveproxy processes, as far as clients notice.
final class ProxyWorker {
  /// Its place among the node's workers.
  let index: Int
  /// Connections that it holds.
  fileprivate(set) var connections = 0
  /// Requests that it has begun.
  fileprivate(set) var requests = 0
  /// It has had its thousand requests: its connections live on, each up to its next answer, and another worker has
  /// its place.
  fileprivate(set) var isRetired = false

  fileprivate init(index: Int) { self.index = index }

  /// Whether a connection that begins now may serve more than one request.
  var keepsAlive: Bool { connections < ProxyWorkers.softLimit }
}

/// A node's three pveproxy workers: who takes which connection, and when one has done its share.
final class ProxyWorkers {
  /// How many there are (PVE's default).
  static let count = 3
  /// Connections of one worker; more wait.
  static let maximumConnections = 500
  /// From so many on, new connections serve one request each.
  static let softLimit = 480
  /// Requests of one worker.
  static let maximumRequests = 1000

  private var workers = (0..<ProxyWorkers.count).map { ProxyWorker(index: $0) }
  private var next = 0

  /// A worker for a new connection; nil while all are full.
  func take() -> ProxyWorker? {
    for _ in workers {
      let worker = workers[next]
      next = (next + 1) % workers.count
      if worker.connections < ProxyWorkers.maximumConnections {
        worker.connections += 1
        return worker
      }
    }
    return nil
  }

  /// A connection is over.
  func release(_ worker: ProxyWorker) { worker.connections -= 1 }

  /// A request begins.
  func began(on worker: ProxyWorker) {
    worker.requests += 1
    guard worker.requests >= ProxyWorkers.maximumRequests, !worker.isRetired else { return }
    worker.isRetired = true
    replace(worker)
  }

  /// Another worker takes the place of one that died or retired.
  func replace(_ worker: ProxyWorker) {
    guard workers[worker.index] === worker else { return }
    workers[worker.index] = ProxyWorker(index: worker.index)
  }

  /// All workers finish what they have, and others take new connections.
  func retireAll() {
    for worker in workers {
      worker.isRetired = true
      replace(worker)
    }
  }

  /// The worker of a place.
  func worker(at place: Int) -> ProxyWorker? {
    workers.indices.contains(place) ? workers[place] : nil
  }
}
