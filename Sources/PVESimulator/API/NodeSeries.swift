/// `rrddata`: series of past values. They are made up, but don't change between two calls about the same time.
extension PVENode {
  private static let points = 70

  /// Seconds between two points, as RRD keeps them.
  private static func step(_ timeframe: String) -> Int {
    switch timeframe {
    case "hour": 60
    case "day": 1_800
    case "week": 10_800
    case "month": 43_200
    case "year": 604_800
    default: 6_048_000
    }
  }

  /// A number from 0 to 1 that belongs to a place and a time.
  private static func wave(_ salt: Int, _ time: Int) -> Double {
    let byte = GuestIdentity.bytes(of: time &+ salt, 1, salt: 77).first ?? 0
    return Double(byte) / 255
  }

  private func series(
    _ arguments: Arguments, _ write: (inout RowWriter, _ time: Int, _ wave: Double) -> Void,
    salt: Int
  ) -> APIResult {
    let step = PVENode.step(arguments.text("timeframe") ?? "hour")
    let end = clock.now / step * step
    var rows = RowWriter(capacity: PVENode.points * 256)
    for i in 0..<PVENode.points {
      let time = end - (PVENode.points - 1 - i) * step
      rows.beginRow()
      rows.field("time", time)
      write(&rows, time, PVENode.wave(salt, time))
      rows.endRow()
    }
    return APIResult(rows.json)
  }

  func nodeSeries(_ arguments: Arguments) -> APIResult {
    let load = load
    return series(
      arguments,
      { rows, _, wave in
        rows.field("cpu", 0.02 + wave / 10)
        rows.field("iowait", wave / 200)
        rows.field("loadavg", wave)
        rows.field("maxcpu", load.cpus)
        rows.field("memtotal", load.maximumMemory)
        rows.field("memused", load.memory + Int(wave * 1e8))
        rows.field("swaptotal", 0)
        rows.field("swapused", 0)
        rows.field("roottotal", load.maximumDisk)
        rows.field("rootused", load.disk)
        rows.field("netin", 900 + wave * 5_000)
        rows.field("netout", 400 + wave * 3_000)
      }, salt: name.utf8.reduce(0) { $0 &* 31 &+ Int($1) })
  }

  func storageSeries(_ arguments: Arguments) -> APIResult {
    guard let definition = cluster.storages.definitions[arguments.text("storage") ?? ""] else {
      return APIResult([])
    }
    let usage = cluster.storages.usage(of: definition, on: name)
    return series(
      arguments,
      { rows, _, _ in
        rows.field("total", usage.total)
        rows.field("used", usage.used)
      }, salt: 0)
  }

  func guestSeries(_ arguments: Arguments, _ guest: Guest) -> APIResult {
    let about = guest.description
    let size = guest.diskSize
    let since = guest.isRunning ? guest.startedAt : Int.max
    return series(
      arguments,
      { rows, time, wave in
        rows.field("maxcpu", about.cores)
        rows.field("maxmem", about.memory)
        rows.field("maxdisk", size)
        // There are no values of times when the guest didn't run.
        guard time >= since else { return }
        rows.field("cpu", 0.01 + wave / 20)
        rows.field("mem", about.memory / 3 + Int(wave * 1e7))
        rows.field("disk", 0)
        rows.field("netin", 200 + wave * 900)
        rows.field("netout", 100 + wave * 700)
        rows.field("diskread", wave * 4_000)
        rows.field("diskwrite", wave * 2_000)
      }, salt: guest.vmid)
  }
}
