/// Uploads, as the API sees them: the file has arrived when the call is made.
extension PVENode {
  static let uploadOperations: [Operation] = [
    Operation("POST", "/nodes/{node}/storage/{storage}/upload") {
      (node, arguments) throws(APIError) in
      // PVE doesn't pass uploads on: the node that was asked copies the file to the one that is named.
      guard let file = arguments.upload else { throw .died("missing temporary file name") }
      try node.resolve(node: arguments.node)
      let target = try node.beginUpload(arguments, filename: file.name)
      var digests: [String: String] = [:]
      if let algorithm = arguments.text("checksum-algorithm") { digests[algorithm] = file.checksum }
      return APIResult(.string(node.finishUpload(target, size: file.size, digests: digests)))
    }
  ]
}
