/// Chance that can be repeated: every number follows from a seed, a name and a count, and from nothing else.
///
/// So two faults don't disturb each other's luck, and the n-th request of a run meets the same fate in the next.
struct Dice: Sendable, Hashable {
  private let origin: UInt64

  /// - Parameter name: what the numbers are for.
  init(seed: UInt64, _ name: String) {
    // FNV-1a, then one round of SplitMix64 so that neighbouring seeds have nothing in common.
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    origin = Dice.mix(seed &+ Dice.mix(hash))
  }

  /// The n-th number.
  subscript(n: Int) -> UInt64 {
    Dice.mix(origin &+ UInt64(bitPattern: Int64(n)) &* 0x9e37_79b9_7f4a_7c15)
  }

  /// The n-th number, from 0 to just below 1.
  func fraction(_ n: Int) -> Double { Double(self[n] >> 11) * 0x1p-53 }

  /// The n-th number below a limit.
  func below(_ limit: Int, _ n: Int) -> Int { limit > 0 ? Int(self[n] % UInt64(limit)) : 0 }

  /// So many bytes.
  func bytes(_ count: Int) -> [UInt8] {
    (0..<max(count, 0)).map { UInt8(truncatingIfNeeded: self[$0 / 8] >> (8 * UInt64($0 % 8))) }
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value &+ 0x9e37_79b9_7f4a_7c15
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}
