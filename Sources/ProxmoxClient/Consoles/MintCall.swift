import ConsoleProtocol

/// The size of a VNC shell's screen, in pixels. A VM has its own and takes none.
public struct ScreenSize: Sendable, Hashable {
  /// 16 to 4096.
  public var width: Int
  /// 16 to 2160.
  public var height: Int

  /// Cut to what PVE takes.
  public init(width: Int, height: Int) {
    self.width = min(max(width, 16), 4096)
    self.height = min(max(height, 16), 2160)
  }

  /// Room for so many characters of vncterm's 8 by 16 pixels.
  public init(columns: Int, rows: Int) {
    self.init(width: min(columns, 512) * 8, height: min(rows, 135) * 16)
  }
}

/// Which call opens which console.
struct MintCall: Sendable, Equatable {
  /// Below `/api2/json`, without the last step: `/nodes/pve1/qemu/100`.
  let base: String
  /// `vncproxy`, `vncshell` or `termproxy`.
  let step: String
  let parameters: [Parameter]

  /// Nil where the place has no such console.
  init?(_ console: Console, of place: Place, size: ScreenSize?, version: PVEVersion) {
    guard console.isAvailable(on: place.kind) else { return nil }
    base = place.apiPath
    guard console == .vnc else {
      step = "termproxy"
      switch console {
      case .serial0, .serial1, .serial2, .serial3:
        parameters = [Parameter("serial", console.description)]
      default: parameters = []
      }
      return
    }
    // Without websocket=1 the port is open to the network, on old versions in plain text.
    var parameters = [Parameter("websocket", true)]
    let can = version.capabilities
    switch place.kind {
    case .qemu:
      step = "vncproxy"
      // Newer versions always answer a password; the parameter would be harmless, but isn't needed.
      if !can.answersCarryPassword, can.takesGeneratePassword {
        parameters.append(Parameter("generate-password", true))
      }
    case .lxc, .node:
      step = place.kind == .node ? "vncshell" : "vncproxy"
      if let size {
        parameters += [Parameter("width", size.width), Parameter("height", size.height)]
      }
    }
    self.parameters = parameters
  }

  var request: APIRequest {
    APIRequest(method: .post, path: "\(base)/\(step)", parameters: parameters)
  }

  /// The upgrade request's path and query. The ticket holds `+ / = :` and, as a prefix, anything from `!` to a back-tick.
  func websocketTarget(port: Int, ticket: String) -> String {
    "/api2/json\(base)/vncwebsocket?port=\(port)&vncticket=\(PercentEncoding.encode(ticket))"
  }
}

extension Place {
  /// `/nodes/pve1`, `/nodes/pve1/qemu/100`, `/nodes/pve1/lxc/200`
  var apiPath: String {
    switch kind {
    case .node: "/nodes/\(node)"
    case .qemu(let id): "/nodes/\(node)/qemu/\(id)"
    case .lxc(let id): "/nodes/\(node)/lxc/\(id)"
    }
  }
}
