import ConsoleProtocol
import Synchronization

/// The right to be the only one between mint and login at one VM's screen.
///
/// QEMU has one VNC password per VM: a second client that comes before the first has logged in replaces it, and the first
/// fails. Sessions that are logged in are not disturbed.
public final class ConsoleTurn: Sendable {
  private let release: Mutex<(@Sendable () -> Void)?>

  init(_ release: @escaping @Sendable () -> Void) { self.release = Mutex(release) }

  deinit { end() }

  /// Lets the next one in: after the RFB login, or after giving up. More than once does nothing.
  public func end() {
    let action = release.withLock { release in
      defer { release = nil }
      return release
    }
    action?()
  }
}

/// Who waits for which VM, in order.
final class ConsoleTurns: Sendable {
  private struct Line {
    var holder: UInt64
    var waiting: [(id: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
  }
  private struct State {
    var lines: [VMID: Line] = [:]
    var lastID: UInt64 = 0
  }
  private let state = Mutex(State())

  /// False if the caller was cancelled before its turn.
  func take(_ vmid: VMID) async -> ConsoleTurn? {
    let id = state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
    let granted = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let now = state.withLock { state -> Bool in
          guard state.lines[vmid] != nil else {
            state.lines[vmid] = Line(holder: id)
            return true
          }
          state.lines[vmid]?.waiting.append((id, continuation))
          return false
        }
        if now { continuation.resume(returning: true) } else if Task.isCancelled { leave(vmid, id) }
      }
    } onCancel: {
      leave(vmid, id)
    }
    return granted ? ConsoleTurn { [weak self] in self?.pass(vmid, from: id) } : nil
  }

  private func leave(_ vmid: VMID, _ id: UInt64) {
    let continuation = state.withLock { state -> CheckedContinuation<Bool, Never>? in
      guard let index = state.lines[vmid]?.waiting.firstIndex(where: { $0.id == id }) else {
        return nil
      }
      return state.lines[vmid]?.waiting.remove(at: index).continuation
    }
    continuation?.resume(returning: false)
  }

  private func pass(_ vmid: VMID, from id: UInt64) {
    let next = state.withLock { state -> CheckedContinuation<Bool, Never>? in
      guard var line = state.lines[vmid], line.holder == id else { return nil }
      guard !line.waiting.isEmpty else {
        state.lines[vmid] = nil
        return nil
      }
      let first = line.waiting.removeFirst()
      line.holder = first.id
      state.lines[vmid] = line
      return first.continuation
    }
    next?.resume(returning: true)
  }
}

extension ProxmoxClient {
  /// Waits until nobody else is between mint and login at this console. Only a VM's screen needs it; for everything else
  /// the turn comes at once. Take it before ``mint(_:of:size:)``, end it after the login or when giving up.
  /// - Throws: ``PVEError/Kind/cancelled``
  public func turn(for console: Console, of place: Place) async throws(PVEError) -> ConsoleTurn {
    guard console == .vnc, case .qemu(let vmid) = place.kind else { return ConsoleTurn {} }
    guard let turn = await turns.take(vmid) else {
      throw APIRequest(method: .post, path: place.apiPath).error(.cancelled, "cancelled")
    }
    return turn
  }
}
