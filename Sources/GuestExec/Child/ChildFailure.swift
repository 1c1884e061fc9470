import Glibc

extension ChildFailure {
  /// In the words of whoever asked for the command.
  func failure(of request: ExecRequest, on place: String) -> ExecFailure {
    let program: String =
      switch request.command {
      case .argv(let argv): String(decoding: (argv.first ?? []).prefix(200), as: UTF8.self)
      case .shell: "/bin/sh"
      }
    switch step {
    case .program:
      switch code {
      case ENOENT:
        return ExecFailure(
          .startFailed, "There is no program '\(program)' on \(place).",
          remedy: "Check the spelling, or give its whole path.", field: "argv")
      case EACCES:
        return ExecFailure(
          .startFailed, "'\(program)' on \(place) can't be run: \(reason).",
          remedy: "It needs the permission to be executed.", field: "argv")
      default:
        return ExecFailure(
          .startFailed, "'\(program)' on \(place) can't be run: \(reason).", field: "argv")
      }
    case .directory:
      return ExecFailure(
        .startFailed,
        "The working directory '\(String(decoding: (request.directory ?? []).prefix(200), as: UTF8.self))'"
          + " can't be entered on \(place): \(reason).", field: "directory")
    case .user:
      return ExecFailure(
        .startFailed, "Becoming '\(request.user ?? "")' on \(place) failed: \(reason).",
        remedy: "Only root may become somebody else.", field: "user")
    case .preparing:
      return ExecFailure(
        .busy, "No process could be made on \(place): \(reason).",
        remedy: "Processes, memory or descriptors have run out there.")
    }
  }
}
