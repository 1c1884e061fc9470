/// Back to the start.
extension Cluster {
  /// Puts everything back as it was at the first start: guests, tasks, access, faults, quirks, clock, journal. Consoles
  /// end. Credentials, certificates and keys stay, so clients needn't be told anything.
  func reset() {
    faults.clear(seed: configuration.faultSeed)
    for guest in guests.values {
      guest.stop()
      guest.insidesIfMade?.destroyed()
    }
    for node in nodes { node.forgetTasks() }
    guests = [:]
    behaviour = configuration.behaviour
    clock.reset()
    tickets.revocations.clear()
    storages.clear()
    pools.restore([])
    datacenter = OptionList()
    access.reset(to: initialAccess)
    resetObjects()
    placeGuests()
    saveEverything()
    // They were checked at the start, and every node is still there.
    try? injectConfiguredFaults()
    journal.clear()
  }

  /// Injects the configuration's faults.
  func injectConfiguredFaults() throws(SimulatorError) {
    for fault in configuration.faults {
      do throws(FaultError) {
        try faults.add(fault)
      } catch {
        throw .configuration("the fault '\(fault)': \(error)")
      }
    }
  }
}
