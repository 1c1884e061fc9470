import CSallyport
import Glibc

/// A program to run, with everything that it starts with.
struct Command {
  /// With a slash, or a name that is looked for along ``searchPath``.
  var path: String
  /// The program's name for itself first.
  var arguments: [String]
  var environment: [String: String]
  /// Where it starts; where there is no such folder, it starts where we are.
  var directory: String = "/"
  /// Whether it is killed when the thread that started it ends, however that happens.
  var diesWithUs = false

  /// Where names without a slash are looked for: `PATH` of the environment.
  var searchPath: String { environment["PATH"] ?? Shells.path }

  /// Starts it, in a room or on this machine.
  func spawn(
    in input: Int32, out: Int32, err: Int32, terminal: Bool, room: pid_t = 0,
    roomHasUser: Bool = false
  ) -> Result<pid_t, SpawnError> {
    // `execve` would end them there.
    guard !path.utf8.contains(0), !arguments.contains(where: { $0.utf8.contains(0) }) else {
      return .failure(SpawnError(code: EINVAL))
    }
    let pid = CStrings(arguments).with { argv in
      CStrings(environment.map { "\($0.key)=\($0.value)" }).with { envp in
        path.withCString { path in
          searchPath.withCString { search in
            directory.withCString { directory in
              var child = sp_child()
              child.path = path
              child.search = search
              child.argv = argv
              child.envp = envp
              child.directory = directory
              child.in = input
              child.out = out
              child.err = err
              child.terminal = terminal ? 1 : 0
              child.session = 1
              child.dies_with_us = diesWithUs ? 1 : 0
              child.room = room
              child.room_has_user = roomHasUser ? 1 : 0
              return sp_spawn(&child)
            }
          }
        }
      }
    }
    return pid > 0 ? .success(pid) : .failure(SpawnError(code: errno))
  }
}

/// Why a program didn't start.
struct SpawnError: Error {
  var code: Int32
  /// The system's words.
  var reason: String { String(cString: strerror(code)) }
}

/// Texts as system calls take them: an array of pointers with a null pointer at its end.
final class CStrings {
  private var pointers: [UnsafeMutablePointer<CChar>?]

  init(_ texts: [String]) { pointers = texts.map { strdup($0) } + [nil] }
  deinit { for pointer in pointers { free(pointer) } }

  func with<R>(_ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>?) -> R) -> R {
    pointers.withUnsafeBufferPointer { body($0.baseAddress) }
  }
}
