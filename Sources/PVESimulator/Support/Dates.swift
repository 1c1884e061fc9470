import Glibc

/// A time in the parts of a calendar, in UTC.
func civil(_ seconds: Int) -> (
  year: Int, month: Int, day: Int, hour: Int, minute: Int, second: Int
) {
  var when = time_t(seconds)
  var parts = tm()
  gmtime_r(&when, &parts)
  return (
    Int(parts.tm_year) + 1900, Int(parts.tm_mon) + 1, Int(parts.tm_mday), Int(parts.tm_hour),
    Int(parts.tm_min), Int(parts.tm_sec)
  )
}

/// A number with two digits.
func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

/// `2026-11-21 18:24:08`, as logs have it.
func logDate(_ seconds: Int) -> String {
  let t = civil(seconds)
  return
    "\(t.year)-\(two(t.month))-\(two(t.day)) \(two(t.hour)):\(two(t.minute)):\(two(t.second))"
}

/// `00:00:13`.
func clockTime(_ seconds: Int) -> String {
  "\(two(seconds / 3600)):\(two(seconds / 60 % 60)):\(two(seconds % 60))"
}

/// A size as PVE's logs write it: `8.0 GiB`.
func readable(_ bytes: Int) -> String {
  var value = Double(bytes)
  var unit = 0
  let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
  while value >= 1024, unit < units.count - 1 {
    value /= 1024
    unit += 1
  }
  let tenths = Int((value * 10).rounded())
  return "\(tenths / 10).\(tenths % 10) \(units[unit])"
}
