import CLibcurl
import CSallyport
import ConsoleProtocol

#if canImport(Glibc)
  import Glibc
#endif

/// One request on libcurl: its easy handle, and what came back so far. It belongs to the transport's thread.
final class Transfer {
  let id: UInt64
  let request: HTTPRequest
  let continuation: CurlCore.Continuation
  let easy: UnsafeMutableRawPointer
  private let errorText: UnsafeMutablePointer<CChar>
  private var headerList: UnsafeMutablePointer<curl_slist>?
  private(set) var verifier = CertificateVerifier()

  private var reason = ""
  private var headers: [(name: String, value: String)] = []
  private var headerBytes = 0
  private var body: [UInt8] = []
  private var overflowed = false
  /// How often libcurl was about to send the request.
  private var sendings = 0

  /// pveproxy takes 8 KiB of headers; nothing honest answers with more than this many bytes of them.
  private static let maximumHeaders = 256 << 10

  init?(id: UInt64, request: HTTPRequest, continuation: CurlCore.Continuation) {
    guard let easy = curl_easy_init() else { return nil }
    self.id = id
    self.request = request
    self.continuation = continuation
    self.easy = easy
    errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
    errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
  }

  deinit {
    curl_easy_cleanup(easy)
    if let headerList { curl_slist_free_all(headerList) }
    errorText.deallocate()
  }

  // MARK: Setting up

  /// Sets every option. Nil if all is well.
  func configure() -> TransportFailure? {
    let me = Unmanaged.passUnretained(self).toOpaque()
    let scheme = request.tls == nil ? "http" : "https"
    set(CURLOPT_URL, "\(scheme)://\(request.host)\(request.target)")
    set(CURLOPT_PROTOCOLS_STR, "http,https")
    set(CURLOPT_PATH_AS_IS, 1)
    set(CURLOPT_PRIVATE, pointer: UnsafeMutableRawPointer(bitPattern: UInt(id)))
    set(CURLOPT_ERRORBUFFER, pointer: UnsafeMutableRawPointer(errorText))
    set(CURLOPT_NOSIGNAL, 1)
    set(CURLOPT_FOLLOWLOCATION, 0)
    set(CURLOPT_HTTP_VERSION, 2)  // CURL_HTTP_VERSION_1_1: pveproxy speaks nothing else.
    set(CURLOPT_USERAGENT, "sallyport")
    // An empty proxy keeps libcurl from looking into the environment.
    set(CURLOPT_PROXY, request.proxy ?? "")
    set(CURLOPT_NOPROXY, "")
    set(CURLOPT_CONNECTTIMEOUT_MS, request.timeouts.connect.milliseconds)
    set(CURLOPT_TIMEOUT_MS, request.timeouts.total.milliseconds)
    set(CURLOPT_LOW_SPEED_LIMIT, 1)
    set(CURLOPT_LOW_SPEED_TIME, max(1, (request.timeouts.idle.milliseconds + 999) / 1000))
    // Without it, giving up on a slow name server would hold the thread until that answers.
    set(CURLOPT_QUICK_EXIT, 1)
    set(CURLOPT_MAXAGE_CONN, 3)  // pveproxy closes an idle connection after 5 s.
    _ = sp_curl_set_off(easy, CURLOPT_MAXFILESIZE_LARGE, curl_off_t(request.maximumBody))
    _ = sp_curl_set_write(easy, CURLOPT_WRITEFUNCTION, transferBody)
    set(CURLOPT_WRITEDATA, pointer: me)
    _ = sp_curl_set_write(easy, CURLOPT_HEADERFUNCTION, transferHeader)
    set(CURLOPT_HEADERDATA, pointer: me)
    _ = sp_curl_set_prereq(easy, CURLOPT_PREREQFUNCTION, transferWillSend)
    set(CURLOPT_PREREQDATA, pointer: me)
    _ = sp_curl_set_sockopt(easy, CURLOPT_SOCKOPTFUNCTION, transferSocketOpened)
    setMethod()
    guard setHeaders() else {
      return TransportFailure(
        kind: .badConfiguration, message: "a header holds a control character")
    }
    if let policy = request.tls { setTrust(policy) }
    return nil
  }

  private func set(_ option: CURLoption, _ value: Int) { _ = sp_curl_set_long(easy, option, value) }
  private func set(_ option: CURLoption, _ value: String?) {
    _ = sp_curl_set_string(easy, option, value)
  }
  private func set(_ option: CURLoption, pointer: UnsafeMutableRawPointer?) {
    _ = sp_curl_set_pointer(easy, option, pointer)
  }

  private func setMethod() {
    switch request.method {
    case .get: set(CURLOPT_HTTPGET, 1)
    case .delete:
      set(CURLOPT_HTTPGET, 1)
      set(CURLOPT_CUSTOMREQUEST, "DELETE")
    case .post, .put:
      let body = request.body ?? []
      set(CURLOPT_POST, 1)
      if request.method == .put { set(CURLOPT_CUSTOMREQUEST, "PUT") }
      _ = sp_curl_set_off(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
      var copy = body.isEmpty ? [0] : body
      copy.withUnsafeMutableBytes { set(CURLOPT_COPYPOSTFIELDS, pointer: $0.baseAddress) }
    }
  }

  private func setHeaders() -> Bool {
    // Expect: pveproxy never answers it, and libcurl would wait a second.
    var lines = ["Expect:"]
    for (name, value) in request.headers {
      let text = value.reveal()
      guard !text.utf8.contains(where: { $0 < 32 || $0 == 127 }) else { return false }
      lines.append("\(name): \(text)")
    }
    for line in lines {
      guard let longer = curl_slist_append(headerList, line) else { return false }
      headerList = longer
    }
    _ = sp_curl_set_slist(easy, CURLOPT_HTTPHEADER, headerList)
    return true
  }

  private func setTrust(_ policy: TLSPolicy) {
    set(CURLOPT_SSLVERSION, 6)  // CURL_SSLVERSION_TLSv1_2 or later.
    if let own = policy.clientCertificate {
      set(CURLOPT_SSLCERT, own.certificateFile)
      set(CURLOPT_SSLKEY, own.keyFile)
    }
    switch policy.trust {
    case .insecure:
      set(CURLOPT_SSL_VERIFYPEER, 0)
      set(CURLOPT_SSL_VERIFYHOST, 0)
      return
    case .systemCAs: set(CURLOPT_SSL_VERIFYHOST, 2)
    case .caFile(let path):
      set(CURLOPT_CAINFO, path)
      set(CURLOPT_CAPATH, nil)
      set(CURLOPT_SSL_VERIFYHOST, 2)
    case .fingerprint(let pin):
      verifier.pin = pin
      set(CURLOPT_CAINFO, nil)
      set(CURLOPT_CAPATH, nil)
      set(CURLOPT_SSL_VERIFYHOST, 0)
    }
    // A pin needs it too: without it OpenSSL would pass over what the verifier says.
    set(CURLOPT_SSL_VERIFYPEER, 1)
    _ = sp_curl_set_ssl_ctx(easy, CURLOPT_SSL_CTX_FUNCTION, transferTLSContext)
    set(CURLOPT_SSL_CTX_DATA, pointer: Unmanaged.passUnretained(verifier).toOpaque())
  }

  // MARK: What comes back

  fileprivate func receive(header line: UnsafeRawBufferPointer) -> Bool {
    headerBytes += line.count
    guard headerBytes <= Self.maximumHeaders else {
      overflowed = true
      return false
    }
    var text = Substring(String(decoding: line, as: UTF8.self))
    while let last = text.unicodeScalars.last, last == "\r" || last == "\n" {
      text.unicodeScalars.removeLast()
    }
    if text.hasPrefix("HTTP/") {
      // A new status line, after a proxy's or an interim answer.
      headers = []
      body = []
      let parts = text.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
      reason = parts.count == 3 ? String(parts[2]) : ""
    } else if let colon = text.firstIndex(of: ":") {
      let value = text[text.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
      headers.append((String(text[..<colon]), String(value)))
    }
    return true
  }

  fileprivate func receive(body bytes: UnsafeRawBufferPointer) -> Bool {
    guard body.count + bytes.count <= request.maximumBody else {
      overflowed = true
      return false
    }
    body.append(contentsOf: bytes)
    return true
  }

  /// libcurl sends again on a new connection when a kept one turns out closed. A write must not run twice.
  fileprivate func willSend() -> Bool {
    sendings += 1
    return sendings == 1 || request.mayRepeat
  }

  // MARK: The end

  /// The answer, or why there is none.
  func outcome(_ code: CURLcode) -> Result<HTTPAnswer, TransportFailure> {
    if code == CURLE_OK {
      var status = 0
      _ = sp_curl_get_long(easy, CURLINFO_RESPONSE_CODE, &status)
      return .success(HTTPAnswer(status: status, reason: reason, headers: headers, body: body))
    }
    return .failure(TransportFailure(kind: kind(code), message: text(code)))
  }

  private func kind(_ code: CURLcode) -> PVEError.Kind {
    if overflowed || code == CURLE_FILESIZE_EXCEEDED {
      return .bodyTooLarge(limit: request.maximumBody)
    }
    switch code {
    case CURLE_OPERATION_TIMEDOUT:
      if sendings == 0 { return .timedOut(.connect) }
      return String(cString: errorText).hasPrefix("Operation too slow")
        ? .timedOut(.idle) : .timedOut(.total)
    case CURLE_PEER_FAILED_VERIFICATION:
      return .tlsUntrusted(expected: verifier.pin, seen: verifier.seen)
    case CURLE_SSL_CONNECT_ERROR:
      return verifier.refused
        ? .tlsUntrusted(expected: verifier.pin, seen: verifier.seen) : .connectFailed
    case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_CONNECT:
      return .connectFailed
    case CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CERTPROBLEM, CURLE_SSL_ENGINE_NOTFOUND,
      CURLE_SSL_CIPHER, CURLE_URL_MALFORMAT:
      return .badConfiguration
    case CURLE_WEIRD_SERVER_REPLY, CURLE_UNSUPPORTED_PROTOCOL, CURLE_BAD_CONTENT_ENCODING,
      CURLE_HTTP2:
      return .malformedAnswer(field: nil)
    default: return sendings == 0 ? .connectFailed : .connectionLost
    }
  }

  private func text(_ code: CURLcode) -> String {
    if let complaint = verifier.complaint,
      code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CONNECT_ERROR
    {
      return complaint
    }
    if overflowed || code == CURLE_FILESIZE_EXCEEDED {
      return "the answer is larger than \(request.maximumBody) bytes"
    }
    if code == CURLE_ABORTED_BY_CALLBACK {
      return "the kept connection was closed under the request"
    }
    let own = String(cString: errorText)
    var text = own.isEmpty ? String(cString: curl_easy_strerror(code)) : own
    if let seen = verifier.seen, code == CURLE_PEER_FAILED_VERIFICATION {
      text += " (certificate \(seen))"
    }
    return PVEError.clean(text)
  }
}

private func transfer(_ user: UnsafeMutableRawPointer?) -> Transfer? {
  user.map { Unmanaged<Transfer>.fromOpaque($0).takeUnretainedValue() }
}

private func transferBody(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
  _ user: UnsafeMutableRawPointer?
) -> Int {
  let chunk = UnsafeRawBufferPointer(start: bytes, count: size * count)
  return transfer(user)?.receive(body: chunk) == true ? chunk.count : chunk.count &+ 1
}

private func transferHeader(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
  _ user: UnsafeMutableRawPointer?
) -> Int {
  let line = UnsafeRawBufferPointer(start: bytes, count: size * count)
  return transfer(user)?.receive(header: line) == true ? line.count : line.count &+ 1
}

private func transferWillSend(
  _ user: UnsafeMutableRawPointer?, _: UnsafeMutablePointer<CChar>?,
  _: UnsafeMutablePointer<CChar>?, _: Int32, _: Int32
) -> Int32 {
  transfer(user)?.willSend() == true ? 0 : 1  // CURL_PREREQFUNC_OK, CURL_PREREQFUNC_ABORT
}

/// Processes that we start must not inherit the API's connections.
private func transferSocketOpened(
  _: UnsafeMutableRawPointer?, _ socket: curl_socket_t, _: curlsocktype
) -> Int32 {
  _ = fcntl(socket, F_SETFD, FD_CLOEXEC)
  return 0
}

extension Duration {
  /// Whole milliseconds, at least 1.
  var milliseconds: Int {
    let (seconds, attoseconds) = components
    guard seconds < 1_000_000_000 else { return 1_000_000_000_000 }
    return max(1, Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000))
  }
}
