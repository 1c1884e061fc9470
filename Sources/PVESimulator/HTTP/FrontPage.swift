/// What the node answers outside of the API.
extension PVENode {
  /// `GET /`, or that there is no such file.
  func page(_ head: RequestHead) -> Response {
    guard head.path == "/", head.method == "GET" else {
      let message = "no such file '\(head.path)'\n"
      return era.errorBodiesHaveMessages ? .plain(501, message) : .bare(501, message)
    }
    let text = """
      <!DOCTYPE html><html><head><title>\(name) - Proxmox Virtual Environment (simulated)</title></head>
      <body><h1>\(name)</h1><p>A simulated Proxmox VE \(era.rawValue) node. The API is at
      <code>/api2/json</code>, to read at <a href="/api2/html">/api2/html</a>; there is no other web
      interface.</p></body></html>

      """
    return Response(
      status: 200, reason: "OK", body: Array(text.utf8), contentType: "text/html; charset=utf-8")
  }
}
