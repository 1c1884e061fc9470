import ArgumentParser
import ConsoleProtocol
import EventLoop
import Foundation
import ProxmoxClient

/// `sallyport inventory`
struct InventoryCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inventory",
    abstract: "Nodes and guests: what there is, where, and whether it runs.",
    discussion: """
        sallyport inventory --gateway https://consoles.example
        sallyport inventory --host pve1.example --token-id root@pam!cli
        sallyport inventory --output json | jq -r '.clusters[].guests[] | select(.status=="running") | .name'
      """)

  @OptionGroup var format: OutputOptions
  @OptionGroup(title: "Which cluster") var connection: ConnectionOptions

  func run() async throws {
    let report: InventoryReport
    switch try connection.connection() {
    case .gateway(let address):
      let group = try Parsing.loops()
      report = try await GatewayCall.call(
        "GET", "/v1/inventory", of: address, on: group.next(), as: InventoryReport.self)
      group.shutdown()
    case .cluster(let cluster):
      report = InventoryReport(clusters: [try await InventoryReport.ask(cluster)])
    }
    switch format.output {
    case .json: try JSONOutput.print(report)
    case .text: printOut(report.table)
    }
    if let error = report.clusters.compactMap(\.error).first, report.clusters.count == 1 {
      throw Failure(
        kind: error.type?.split(separator: "#").last.map(String.init) ?? "cluster-unreachable",
        sentence: error.detail ?? error.title ?? "The cluster doesn't answer.",
        remedy: error.remedy ?? "", status: .unreachable)
    }
  }
}

/// The inventory as the gateway's API has it, whichever way it was got.
struct InventoryReport: Codable {
  struct Cluster: Codable {
    var name: String
    var version: String?
    var nodes: [Node]?
    var guests: [Guest]?
    var error: Problem?
  }
  struct Node: Codable {
    var node: String
    var status: String
    var cpu: Double?
    var maxcpu: Double?
    var mem: Int?
    var maxmem: Int?
    var uptime: Int?
  }
  struct Guest: Codable {
    var vmid: Int
    var type: String
    var name: String?
    var node: String
    var status: String
    var tags: [String]?
    var template: Bool?
    var cpu: Double?
    var maxcpu: Double?
    var mem: Int?
    var maxmem: Int?
    var uptime: Int?
    var consoles: [String]?
  }
  struct Problem: Codable {
    var type: String?
    var title: String?
    var detail: String?
    var remedy: String?
  }

  var clusters: [Cluster]

  /// Asks a cluster.
  static func ask(_ cluster: ClusterConfiguration) async throws -> Cluster {
    let client = ProxmoxClient(cluster)
    defer { client.shutdown() }
    do throws(PVEError) {
      let inventory = try await client.inventory()
      let version = try? await client.version()
      return Cluster(
        name: cluster.name, version: version?.description, nodes: inventory.nodes.map(Node.init),
        guests: inventory.guests.map(Guest.init), error: nil)
    } catch {
      throw Failure(error)
    }
  }

  /// Aligned columns.
  var table: String {
    var rows: [[String]] = [["TARGET", "NAME", "NODE", "STATE", "CPU", "MEMORY", "UPTIME", "TAGS"]]
    for cluster in clusters {
      let front = clusters.count > 1 ? cluster.name + ":" : ""
      for node in cluster.nodes ?? [] {
        rows.append([
          front + "node/" + node.node, "", node.node, node.status,
          InventoryReport.percent(node.cpu), InventoryReport.memory(node.mem, node.maxmem),
          InventoryReport.duration(node.uptime), "",
        ])
      }
      for guest in cluster.guests ?? [] {
        let runs = guest.status == "running"
        rows.append([
          front + "\(guest.type)/\(guest.vmid)", guest.name ?? "", guest.node,
          guest.template == true ? "template" : guest.status,
          runs ? InventoryReport.percent(guest.cpu) : "",
          runs ? InventoryReport.memory(guest.mem, guest.maxmem) : "",
          runs ? InventoryReport.duration(guest.uptime) : "",
          (guest.tags ?? []).joined(separator: ","),
        ])
      }
      if let error = cluster.error {
        rows.append([front + "error", "", "", error.detail ?? error.title ?? "?", "", "", "", ""])
      }
    }
    let widths = (0..<8).map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      var line = zip(row, widths).map { cell, width in
        cell + String(repeating: " ", count: width - cell.count)
      }.joined(separator: "  ")
      while line.hasSuffix(" ") { line.removeLast() }
      return line
    }.joined(separator: "\n")
  }

  private static func percent(_ share: Double?) -> String {
    share.map { "\(Int(($0 * 100).rounded()))%" } ?? ""
  }

  private static func memory(_ used: Int?, _ all: Int?) -> String {
    func gibibytes(_ bytes: Int) -> String {
      String(format: bytes < 10 << 30 ? "%.1f" : "%.0f", Double(bytes) / Double(1 << 30))
    }
    guard let all, all > 0 else { return "" }
    return "\(used.map(gibibytes) ?? "?")/\(gibibytes(all)) GiB"
  }

  private static func duration(_ seconds: Int?) -> String {
    guard let seconds, seconds > 0 else { return "" }
    switch seconds {
    case ..<60: return "\(seconds) s"
    case ..<3600: return "\(seconds / 60) min"
    case ..<86400: return "\(seconds / 3600) h"
    default: return "\(seconds / 86400) d"
    }
  }
}

extension InventoryReport.Node {
  init(_ node: Inventory.Node) {
    self.init(
      node: node.node.value, status: node.status, cpu: node.cpu, maxcpu: node.maxcpu, mem: node.mem,
      maxmem: node.maxmem, uptime: node.uptime)
  }
}

extension InventoryReport.Guest {
  init(_ guest: Inventory.Guest) {
    self.init(
      vmid: guest.vmid.value, type: guest.type, name: guest.name, node: guest.node.value,
      status: guest.status, tags: guest.tags, template: guest.template, cpu: guest.cpu,
      maxcpu: guest.maxcpu, mem: guest.mem, maxmem: guest.maxmem, uptime: guest.uptime,
      consoles: guest.consoles.map(\.description))
  }
}
