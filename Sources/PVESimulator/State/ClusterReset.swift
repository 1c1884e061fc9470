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
    store?.eraseAll()
    storages.clear()
    pools.restore([])
    access.reset(to: initialAccess)
    resetObjects()
    tickets.persist()
    placeGuests()
    injectConfiguredFaults()
    journal.clear()
  }

  /// Injects the configuration's faults; they were checked before the start.
  func injectConfiguredFaults() {
    for fault in configuration.faults {
      do throws(FaultError) {
        try faults.add(fault)
      } catch {
        // A fault for what isn't there any more does nothing.
      }
    }
  }
}
