import ConsoleProtocol
import EventLoop

/// A request whose head was read and whose sender is known.
struct ClientRequest {
  var head: RequestHead
  /// Nil outside of the API.
  var address: APIAddress?
  /// Nil where nobody has to be logged in.
  var identity: Identity?
  /// The storage to which it brings a file.
  var uploadStorage: String?

  /// What pages say about it.
  var subject: Formatter.Subject { .init(method: head.method, path: address?.path ?? head.path) }
}

/// What happens to a request, in pveproxy's order: its head is looked at, its sender is known or sent away, its
/// body is read, it is called, and the outcome is put in the format that the path names.
extension Connection {
  private static let methods: Set<String> = ["GET", "POST", "PUT", "DELETE"]

  // MARK: before the body

  /// Answers what is no request.
  func refuse(_ status: Int, _ reason: String) {
    begin("?", path: "?")
    manner = .init()
    respond(error(status, reason))
  }

  /// What pveproxy itself says: older ones have no body there.
  private func error(_ status: Int, _ message: String) -> Response {
    node.era.errorBodiesHaveMessages ? .plain(status, message) : .bare(status, message)
  }

  private func begin(_ method: String, path: String) {
    began = node.loop.now
    count()
    plan = RequestPlan()
    parameters = Parameters()
    // Whoever steers the simulator doesn't leave traces in what the others did.
    guard !ControlDesk.owns(path[...]) else {
      entry = nil
      return
    }
    var entry = Journal.Entry(time: node.clock.now, method: method, path: path)
    entry.node = node.name
    entry.connection = Int(key)
    entry.request = served
    self.entry = entry
  }

  private func begin(_ head: RequestHead) {
    begin(head.method, path: head.path)
    if !head.query.isEmpty { parameters = query(of: head) }
    requestsLeft -= 1
    node.proxies.began(on: process)
    manner = .init(minorVersion: head.minorVersion)
    manner.encoding = .init(accepted: head.header("accept-encoding"), era: node.era)
    if let connection = head.header("connection") {
      if connection.lowercased().contains("close") { requestsLeft = 0 }
    } else if head.minorVersion == 0 {
      requestsLeft = 0
    }
  }

  func dispatch(_ head: RequestHead) {
    phase = .busy
    ignoreIdleness()
    begin(head)
    guard Connection.methods.contains(head.method) else {
      respond(.bare(501, "method '\(head.method)' not available"))
      return
    }
    if let encoding = head.header("transfer-encoding"), !encoding.isEmpty {
      respond(
        error(
          501,
          encoding.lowercased() == "chunked"
            ? "chunked transfer encoding not supported"
            : "Unknown transfer encoding '\(encoding)'"))
      return
    }
    guard stream?.isEncrypted == true else {
      redirect(head)
      return
    }
    var request = ClientRequest(head: head)
    var refusal: Authenticator.Refusal?
    if APIAddress.isClaimed(head.path) {
      guard let address = APIAddress(head.path) else {
        respond(error(501, "no such uri"))
        return
      }
      request.address = address
      request.uploadStorage = address.uploadStorage(method: head.method)
      do throws(Authenticator.Refusal) {
        request.identity = try node.authenticator.identify(
          head, path: address.path, access: node.access, isUpload: request.uploadStorage != nil)
      } catch {
        refusal = error
      }
    }
    entry?.user = request.identity?.authID
    guard let plan = drawFaults(head, request.identity) else {
      journal(status: 0, reason: "the worker died (fault)")
      return
    }
    self.plan = plan
    if plan.ticketHasExpired { refusal = Authenticator.Refusal(reason: "Authentication failed!") }
    if let refusal, plan.ending?.isCarriedOut ?? true {
      refuse(refusal, request)
    } else if let refusal = uploadRefusal(request) {
      respond(refusal)
    } else {
      readBody(of: request)
    }
  }

  /// 401: in JSON's formats a reason phrase and no more; a browser is sent to the login page.
  private func refuse(_ refusal: Authenticator.Refusal, _ request: ClientRequest) {
    guard request.address?.format == Formatter.html.rawValue else {
      respond(.bare(401, refusal.reason))
      return
    }
    var response = Response.moved(301, "Moved", to: Page.loginPath)
    response.isDelayed = true
    respond(response)
  }

  /// A client that speaks plain HTTP is told to use TLS; without a `Host` it is told nothing.
  private func redirect(_ head: RequestHead) {
    guard let host = head.header("host"), !host.isEmpty else {
      die()
      return
    }
    let name =
      ["https://", "http://"].first { host.hasPrefix($0) }
      .map { String(host.dropFirst($0.count)) } ?? host
    let isGet = head.method == "GET"
    var response = error(
      isGet ? 301 : 308, isGet ? "Moved Permanently" : "Permanent Redirect")
    response.location = "https://\(name)\(head.target)"
    respond(response)
  }

  /// Who may not upload is told before the file is sent.
  private func uploadRefusal(_ request: ClientRequest) -> Response? {
    guard let storage = request.uploadStorage, let identity = request.identity else { return nil }
    let path = "/storage/\(storage)"
    guard !node.access.holds(identity.authID, .datastoreAllocateTemplate, on: path) else {
      return nil
    }
    var response = Response.bare(
      403, "Permission check failed (\(path), Datastore.AllocateTemplate)")
    response.isDelayed = true
    return response
  }

  /// Where Perl dies before it has an answer, none ever comes: the idle timer closes the connection.
  private func die() {
    journal(status: 0, reason: "no answer")
    phase = .deaf
    watchIdleness()
  }

  // MARK: the body

  private func readBody(of request: ClientRequest) {
    let text = request.head.header("content-length") ?? ""
    guard !text.isEmpty, text != "0" else {
      handle(request, [])
      return
    }
    // Perl takes the digits at the front for the number, and 0 where there are none.
    let length = Int(text.prefix { $0.isASCII && $0.isNumber }.prefix(18)) ?? 0
    let method = request.head.method
    guard method == "POST" || method == "PUT" else {
      respond(error(501, "Unexpected content for method '\(method)'"))
      return
    }
    let header = request.head.header("content-type") ?? ""
    let type = ContentType(header)
    if request.uploadStorage != nil {
      guard let boundary = type.boundary, type.isMultipart else {
        die()
        return
      }
      requestsLeft = 0
      let reader = UploadReader(
        boundary: boundary, length: length, limit: readBuffer, query: query(of: request.head))
      phase = .upload(request, reader)
    } else if length > node.era.maximumBody {
      respond(error(501, "for data too large"))
      return
    } else if !header.isEmpty, type.body == nil {
      respond(error(506, "upload 'Content-Type '\(header)' not implemented"))
      return
    } else {
      phase = .body(request, length: length)
    }
    watchIdleness()
  }

  private func query(of head: RequestHead) -> Parameters {
    let text = head.query
    return text.isEmpty
      ? Parameters() : Parameters(form: text.utf8, repeats: node.era.formRepeats)
  }

  /// Takes a piece of a file in.
  func proceed(_ request: ClientRequest, _ reader: UploadReader, _ bytes: UnsafeRawBufferPointer) {
    switch reader.feed(bytes) {
    case .needsMore: break
    case .overfull: cut()
    case .refused(let message): respond(error(501, message))
    case .complete(let file, var parameters):
      phase = .busy
      ignoreIdleness()
      parameters.remove("_dc")
      self.parameters = parameters
      entry?.bytesIn = reader.length
      parameters.set("tmpfilename", .text(file.temporaryName))
      call(request, parameters, file)
    }
  }

  func handle(_ request: ClientRequest, _ body: [UInt8]) {
    ignoreIdleness()
    if ControlDesk.owns(request.head.path[...]) {
      respond(node.cluster.control.answer(request.head, body))
      return
    }
    entry?.bytesIn = body.count
    var parameters = Parameters()
    if !body.isEmpty {
      let type = request.head.header("content-type").map { ContentType($0) }
      if type?.body == .json {
        do throws(JSONReader.Malformed) {
          parameters = try Parameters(json: body)
        } catch {
          let message = "\(error.message) at \(perlPlace(934)).\n"
          respond(self.error(node.era.bodyFailureStatus, message))
          return
        }
      } else {
        parameters = Parameters(form: body, repeats: node.era.formRepeats)
      }
    }
    parameters = parameters.overridden(by: query(of: request.head))
    self.parameters = parameters
    call(request, parameters, nil)
  }

  // MARK: the call

  private func call(_ request: ClientRequest, _ parameters: Parameters, _ file: UploadedFile?) {
    let delay = node.behaviour.latency + plan.delay
    if delay > .zero {
      node.loop.schedule(after: delay) { [weak self] in self?.answer(request, parameters, file) }
    } else {
      answer(request, parameters, file)
    }
  }

  private func answer(_ request: ClientRequest, _ parameters: Parameters, _ file: UploadedFile?) {
    guard stream != nil else { return }
    if let ending = plan.ending, !ending.isCarriedOut {
      spoil(ending)
      return
    }
    if let failure = node.behaviour.failEverything {
      respond(error(failure.status, failure.message + "\n"))
      return
    }
    guard let address = request.address else {
      respond(node.page(request.head))
      return
    }
    guard let formatter = Formatter(rawValue: address.format) else {
      respond(error(501, "no formatter for uri \(address.path), \(address.format)"))
      return
    }
    let call = APICall(
      method: request.head.method, path: address.path, identity: request.identity,
      parameters: parameters, isForwarded: request.head.has("pvedisableproxy"), upload: file)
    do throws(APIError) {
      finish(request, formatter, .success(try node.perform(call)))
    } catch {
      finish(request, formatter, .failure(error))
    }
  }

  /// Answers with what a call came to, when it has come to something.
  private func finish(
    _ request: ClientRequest, _ formatter: Formatter, _ outcome: Result<APIResult, APIError>
  ) {
    guard stream != nil else { return }
    if case .success(let result) = outcome, let later = result.later {
      later { [weak self] in self?.finish(request, formatter, $0) }
      return
    }
    // The handshake is looked at before the outcome is.
    if let upgrade = WebsocketUpgrade(request.head) {
      if let complaint = upgrade.complaint {
        respond(error(node.era.bodyFailureStatus, complaint + "\n"))
        return
      }
      if case .success(let result) = outcome, let dial = result.dial {
        self.upgrade(upgrade, to: dial)
        return
      }
    }
    switch outcome {
    case .success(let result): respond(formatter.success(result, request.subject))
    case .failure(let error):
      respond(
        error.isBare
          ? .bare(error.status, error.message)
          : formatter.failure(
            error, request.subject, hasMessages: node.era.errorBodiesHaveMessages))
    }
  }
}
