import ConsoleProtocol

/// One request as it goes to the transport: nothing in it is PVE's business.
struct HTTPRequest: Sendable {
  var host: APIHost
  var method: HTTPMethod
  /// Path and query, percent-encoded, starting with `/`.
  var target: String
  var headers: [(name: String, value: Secret)]
  /// A form's bytes; nil means no body. Always nil for GET and DELETE.
  var body: [UInt8]?
  /// nil means plain HTTP.
  var tls: TLSPolicy?
  var timeouts: Timeouts
  var maximumBody: Int
  var proxy: String?
  /// Whether libcurl may send it again on another connection, when a kept one turns out to be closed.
  var mayRepeat = false
}

/// One answer, complete.
struct HTTPAnswer: Sendable {
  var status: Int
  /// The reason phrase. PVE puts its message there.
  var reason: String
  var headers: [(name: String, value: String)]
  var body: [UInt8]
}

/// Why there is no answer.
struct TransportFailure: Error, Sendable {
  var kind: PVEError.Kind
  /// What libcurl or OpenSSL say: host names and numbers, never headers or bodies.
  var message: String
}
