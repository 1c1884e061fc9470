import EventLoop

/// A file that came with a request. Of its bytes nothing is kept but their number and, where the request asked for
/// one, their checksum.
struct UploadedFile: Sendable, Hashable {
  /// The name that the client gave it.
  var name: String
  /// In bytes.
  var size: Int
  /// Lower-case hexadecimal, by the request's `checksum-algorithm`; nil where it named none that exists.
  var checksum: String?
  /// Where pveproxy would have put it: the parameter `tmpfilename`.
  var temporaryName: String
}

/// An upload while its body comes in.
final class UploadReader {
  /// What came of a piece.
  enum Step {
    case needsMore
    case complete(UploadedFile, Parameters)
    case refused(String)
    /// The read buffer is full; the connection is cut.
    case overfull
  }

  private var reader: MultipartReader
  private var digest: RunningDigest?
  private var size = 0
  /// Of the body.
  let length: Int
  private var left: Int
  private var parameters: Parameters

  /// - Parameters:
  ///   - length: of the body.
  ///   - query: parameters of the query; the form's fields win.
  init(boundary: String, length: Int, limit: Int, query: Parameters) {
    reader = MultipartReader(boundary: boundary, limit: limit)
    self.length = length
    left = length
    parameters = query
  }

  /// Takes a piece of the body in.
  func feed(_ bytes: UnsafeRawBufferPointer) -> Step {
    let piece = UnsafeRawBufferPointer(rebasing: bytes.prefix(left))
    left -= piece.count
    do throws(MultipartReader.Refusal) {
      try reader.feed(piece) { fields in
        digest = fields.last { $0.name == "checksum-algorithm" }
          .flatMap { RunningDigest($0.value) }
      } file: { data in
        size += data.count
        digest?.update(data)
      }
    } catch {
      return .refused(error.message)
    }
    if reader.isFinished { return complete() }
    if left == 0 { return .refused("upload failed at \(perlPlace(1203)).\n") }
    return reader.isOverfull ? .overfull : .needsMore
  }

  private func complete() -> Step {
    for field in reader.fields { parameters.set(field.name, .text(field.value)) }
    let file = UploadedFile(
      name: parameters["filename"]?.text ?? "", size: size,
      checksum: digest.map { lowerHex($0.finish()) },
      temporaryName: "/var/tmp/pveupload-" + lowerHex(randomBytes(16)))
    return .complete(file, parameters)
  }
}
