import ArgumentParser
import ConsoleProtocol
import Glibc
import PVESimulator

/// What an embedded node is like, as the command line says it.
struct NodeOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The version of Proxmox VE whose manners it has: \(Era.names).", valueName: "era"))
  var pve: String?

  @Option(
    help: ArgumentHelp(
      "How many nodes, up to \(ClusterSeed.mostNodes). They listen on ports that follow each other.",
      valueName: "count"))
  var nodes: Int?

  @Option(
    help: ArgumentHelp(
      "Made-up VMs and containers instead of the demo's, up to \(ClusterSeed.mostGuests).",
      valueName: "count"))
  var guests: Int?

  @Option(
    help: ArgumentHelp(
      "What they are made of: the same number gives the same cluster.", valueName: "number"))
  var seed: UInt64?

  @Option(
    help: ArgumentHelp(
      "Keep the cluster in this SQLite file beyond the end of the process.", valueName: "file"))
  var state: String?

  @Option(
    help: ArgumentHelp(
      "Something that goes wrong, e.g. latency=200ms,path=/nodes/* (docs/faults.md). May be repeated.",
      valueName: "fault"))
  var fault: [String] = []

  @Option(
    help: ArgumentHelp("A file of faults: one a line, or a JSON array.", valueName: "file"))
  var faultFile: String?

  @Option(
    help: ArgumentHelp(
      "What the faults' odds follow from: the same number and requests meet the same faults.",
      valueName: "number"))
  var faultSeed: UInt64 = 1

  @Option(
    help: ArgumentHelp("Add every request to this file, as a line of JSON.", valueName: "file"))
  var journal: String?

  /// Puts them into a configuration.
  func apply(to configuration: inout SimulatorConfiguration) throws(Failure) {
    try applyEra(to: &configuration)
    try applyCluster(to: &configuration)
    configuration.stateFile = state
    configuration.journalFile = journal
    configuration.faultSeed = faultSeed
    for text in fault {
      do throws(FaultError) {
        configuration.faults.append(try Fault(parsing: text))
      } catch {
        throw .usage("--fault '\(text)': \(error).")
      }
    }
    if let faultFile { configuration.faults += try NodeOptions.faults(in: faultFile) }
  }

  private func applyEra(to configuration: inout SimulatorConfiguration) throws(Failure) {
    guard let pve else {
      configuration.adoptsEra = true
      return
    }
    guard let era = Era(rawValue: pve) else {
      throw .usage("--pve '\(pve)' is no version that there is; it is one of \(Era.names).")
    }
    configuration.era = era
  }

  private func applyCluster(to configuration: inout SimulatorConfiguration) throws(Failure) {
    if let nodes, !(1...ClusterSeed.mostNodes).contains(nodes) {
      throw .usage("--nodes is 1 to \(ClusterSeed.mostNodes), not \(nodes).")
    }
    if let guests, !(0...ClusterSeed.mostGuests).contains(guests) {
      throw .usage("--guests is 0 to \(ClusterSeed.mostGuests), not \(guests).")
    }
    if guests != nil || seed != nil {
      configuration.apply(ClusterSeed(seed: seed ?? 1, guests: guests ?? 25, nodes: nodes ?? 1))
    } else if let nodes, nodes > 1 {
      configuration.spread(over: nodes)
    }
  }

  private static func faults(in path: String) throws(Failure) -> [Fault] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw .configuration(
        "The faults can't be read from \(path): \(String(cString: strerror(errno))).")
    }
    defer { close(descriptor) }
    var all: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while all.count < 16 << 20 {
      let count = read(descriptor, &chunk, chunk.count)
      guard count > 0 else { break }
      all += chunk.prefix(count)
    }
    do throws(FaultError) {
      return try Fault.list(parsing: String(decoding: all, as: UTF8.self))
    } catch {
      throw .configuration("\(path), \(error).")
    }
  }
}
