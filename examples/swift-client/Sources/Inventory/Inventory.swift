// Lists the guests of a cluster:  HOST=pve1.example TOKEN_ID='root@pam!t' TOKEN_SECRET=… PIN=AA:BB:… swift run
import ConsoleProtocol
import Foundation
import ProxmoxClient

@main
struct Inventory {
  static func main() async throws {
    let environment = ProcessInfo.processInfo.environment
    guard let host = APIHost(environment["HOST"] ?? ""),
      let pin = Fingerprint(environment["PIN"] ?? "")
    else { return print("Set HOST, TOKEN_ID, TOKEN_SECRET and PIN.") }
    let client = ProxmoxClient(
      ClusterConfiguration(
        name: "example", hosts: [host],
        credential: .token(
          id: environment["TOKEN_ID"] ?? "", secret: Secret(environment["TOKEN_SECRET"] ?? "")),
        tls: TLSPolicy(trust: .fingerprint(pin))))
    print("Proxmox VE \(try await client.version())")
    for guest in try await client.inventory().guests {
      print("\(guest.place)\t\(guest.name ?? "")\t\(guest.status)")
    }
  }
}
