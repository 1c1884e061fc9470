import Glibc

/// Random bytes that can be had again: everything follows from the seed.
///
/// SALLYPORT_FUZZ_SEED repeats a run, SALLYPORT_FUZZ_SECONDS makes each property test last longer.
struct Noise {
  let seed: UInt64
  private var state: UInt64

  init(seed: UInt64) {
    self.seed = seed
    state = seed
  }

  /// The seed of this run, printed so that it can be repeated.
  static func announced(_ what: String) -> Noise {
    let given = getenv("SALLYPORT_FUZZ_SEED").flatMap { UInt64(String(cString: $0)) }
    let seed = given ?? UInt64.random(in: 1...999_999_999)
    print("property test of \(what): SALLYPORT_FUZZ_SEED=\(seed) repeats it")
    return Noise(seed: seed)
  }

  /// How long a property test lasts.
  static var duration: Duration {
    .seconds(getenv("SALLYPORT_FUZZ_SECONDS").flatMap { Int(String(cString: $0)) } ?? 2)
  }

  /// Runs a body with ever new noise until the time is over.
  static func repeated(_ what: String, _ body: (inout Noise) throws -> Void) rethrows {
    var noise = announced(what)
    let end = ContinuousClock.now + duration
    repeat {
      for _ in 0..<20 { try body(&noise) }
    } while ContinuousClock.now < end
  }

  /// Another one, for another thread.
  func other(_ number: Int) -> Noise { Noise(seed: seed &+ UInt64(number) &* 0x9E37_79B9) }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }

  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(max(limit, 1))) }

  /// True once in so many times.
  mutating func once(in times: Int) -> Bool { below(times) == 0 }

  mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next() >> 20) }
  }

  mutating func pick<T>(_ items: [T]) -> T { items[below(items.count)] }

  /// A length that is often short and sometimes at a boundary.
  mutating func length(_ most: Int) -> Int {
    switch below(8) {
    case 0: return below(most + 1)
    case 1:
      return min(most, pick([0, 1, 125, 126, 127, 128, 4095, 4096, 4097, 65_535, 65_536]))
    default: return below(min(most, 200) + 1)
    }
  }

  /// A sample with some of it changed, doubled, dropped, cut off, or replaced by words that mean something.
  mutating func spoiled(_ sample: [UInt8], words: [String]) -> [UInt8] {
    var out = sample
    for _ in 0..<below(6) {
      let at = below(out.count + 1)
      switch below(7) {
      case 0 where at < out.count: out[at] = UInt8(truncatingIfNeeded: next())
      case 1 where at < out.count: out[at] ^= 1 << UInt8(below(8))
      case 2: out.insert(contentsOf: bytes(length(300)), at: at)
      case 3: out.removeSubrange(at..<min(out.count, at + length(60)))
      case 4: out.insert(contentsOf: out[at..<min(out.count, at + length(200))], at: at)
      case 5: out.insert(contentsOf: pick(words).utf8, at: at)
      case 6 where once(in: 4): out.removeSubrange(at...)
      default: break
      }
    }
    return out
  }

  /// The bytes in pieces.
  mutating func pieces(of bytes: [UInt8]) -> [[UInt8]] {
    guard !once(in: 3) else { return [bytes] }
    let most = pick([1, 7, 100, 5000])
    var out: [[UInt8]] = []
    var at = 0
    while at < bytes.count {
      let count = min(bytes.count - at, 1 + below(most))
      out.append(Array(bytes[at..<at + count]))
      at += count
    }
    return out
  }
}

/// The resident memory of this process in bytes.
func residentMemory() -> Int {
  guard let file = fopen("/proc/self/statm", "r") else { return 0 }
  defer { fclose(file) }
  var line = [CChar](repeating: 0, count: 128)
  guard fgets(&line, Int32(line.count), file) != nil else { return 0 }
  let fields = String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    .split(separator: " ")
  return fields.count > 1 ? (Int(fields[1]) ?? 0) * 4096 : 0
}
