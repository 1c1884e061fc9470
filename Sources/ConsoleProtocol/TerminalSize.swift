/// A terminal's size in character cells, within what PVE's schema and termproxy take.
public struct TerminalSize: Sendable, Hashable {
  /// 16 to 4096.
  public let columns: Int
  /// 2 to 2160.
  public let rows: Int

  /// Brings a size into the bounds; nil where it can't be meant (below 1 or above 65,535).
  public init?(columns: Int, rows: Int) {
    guard (1...65535).contains(columns), (1...65535).contains(rows) else { return nil }
    self.columns = min(max(columns, 16), 4096)
    self.rows = min(max(rows, 2), 2160)
  }
}
