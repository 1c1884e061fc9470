import EventLoop
import Foundation

/// What a link is asked for with, as the gateway's API names it. What is nil isn't sent.
struct LinkRequest: Encodable {
  var target: String
  var console: String?
  var ttl: Int?
  var readOnly: Bool?
  var maxDuration: Int?
  var idle: Int?
  var cluster: String?
}

/// A one-time link, as the gateway answers it.
struct GatewayLink: Codable, Sendable {
  var id: String
  var url: String
  var token: String
  var expires: String
  var target: String
  var console: String

  /// Makes one.
  static func create(
    _ request: LinkRequest, at address: GatewayAddress, on loop: Loop
  ) async throws -> GatewayLink {
    try await GatewayCall.call(
      "POST", "/v1/consoles", body: request, of: address, on: loop, as: GatewayLink.self)
  }

  /// The origin of the link's page, which the gateway wants to see on the websocket.
  var origin: String? {
    guard let parts = URLComponents(string: url), let scheme = parts.scheme, let host = parts.host
    else { return nil }
    return "\(scheme)://\(host)" + (parts.port.map { ":\($0)" } ?? "")
  }
}
