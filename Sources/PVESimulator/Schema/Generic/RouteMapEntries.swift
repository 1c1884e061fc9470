/// Entries of SDN route maps: made in one list, read by map and order.
struct RouteMapEntries {
  static let path = "/cluster/sdn/route-maps/entries"

  private let call: GenericCall

  init(_ call: GenericCall) { self.call = call }

  private func collection(_ map: String) -> String { "\(RouteMapEntries.path)/\(map)/entry" }

  func create(_ entry: JSON) throws(APIError) {
    let (map, order) = (call.value("route-map-id"), call.value("order"))
    guard call.objects[collection(map), order] == nil else {
      throw .died("route map entry '\(map) \(order)' already exists")
    }
    call.objects.set(collection(map), order, entry)
  }

  func read() throws(APIError) -> JSON {
    let map = call.value("route-map-id")
    if call.schema.path.hasSuffix("/{order}") {
      guard let entry = call.objects[collection(map), call.value("order")] else {
        throw .died("route map entry '\(map) \(call.value("order"))' does not exist")
      }
      return shown(entry, map, call.value("order"), call.schema.returns)
    }
    let row: ReturnType = if case .array(let row) = call.schema.returns { row } else { .any }
    let collections =
      map.isEmpty
      ? call.objects.collections(below: RouteMapEntries.path) : [collection(map)]
    return .array(
      collections.flatMap { name in
        let map = String(name.dropFirst(RouteMapEntries.path.count + 1).dropLast("/entry".count))
        return call.objects.documents(in: name).map { shown($0.document, map, $0.id, row) }
      })
  }

  private func shown(_ entry: JSON, _ map: String, _ order: String, _ type: ReturnType) -> JSON {
    call.completed(
      entry.with("route-map-id", .string(map)).with("order", .int(Int(order) ?? 0)), type,
      digestOf: nil)
  }
}
