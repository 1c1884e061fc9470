import Foundation
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import EventLoop

/// Serves `/chunks` (pieces until told to stop), `/counted` (a length that is known) and `/short` (less than promised).
private final class StreamServer: HTTPHandler {
  let written = Shared(0)
  let gone = Shared(0)
  let limit: Int
  init(limit: Int) { self.limit = limit }

  func handle(_ request: HTTPRequest, on loop: Loop, reply: HTTPReply) {
    let (written, gone, limit) = (written, gone, limit)
    func source(_ length: Int?, _ count: Int) -> HTTPBodySource {
      HTTPBodySource(length: length) { writer in
        let piece = (0..<10_000).map { UInt8(truncatingIfNeeded: $0) }
        for _ in 0..<count {
          guard await writer.write(piece) else {
            gone.withLock { $0 += 1 }
            return
          }
          written.withLock { $0 += piece.count }
        }
      }
    }
    switch request.path {
    case "/chunks":
      reply.send(HTTPResponse(status: 200, headers: [], source: source(nil, limit / 10_000)))
    case "/counted":
      reply.send(HTTPResponse(status: 200, headers: [], source: source(100_000, 10)))
    case "/short":
      reply.send(HTTPResponse(status: 200, headers: [], source: source(100_000, 9)))
    case "/silent":
      reply.send(
        HTTPResponse(
          status: 200, headers: [],
          source: HTTPBodySource { writer in
            await writer.write(Array("hello".utf8))
            while !Task.isCancelled { try? await Task.sleep(for: .milliseconds(5)) }
            gone.withLock { $0 += 1 }
          }))
    default: reply.send(HTTPResponse(status: 404))
    }
  }

  func upgrade(_ request: HTTPRequest, on loop: Loop) -> UpgradeDecision {
    .refuse(HTTPResponse(status: 404))
  }
}

/// Keeps what it reads; may hold back.
private final class Reader: StreamHandler, @unchecked Sendable {
  // Everything mutable is behind `seen` or constant.
  let seen = Shared<(bytes: [UInt8], ended: Bool)>(([], false))
  let stream = Shared<OnLoop<EventLoop.Stream>?>(nil)
  private let path: String
  private let pauses: Bool
  init(_ path: String, pauses: Bool = false) {
    self.path = path
    self.pauses = pauses
  }
  func streamConnected(_ s: EventLoop.Stream) {
    stream.withLock { $0 = OnLoop(s, loop: s.loop) }
    s.write(Array("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n".utf8))
    if pauses { s.pauseReading() }
  }
  func stream(_ s: EventLoop.Stream, received bytes: UnsafeMutableRawBufferPointer) {
    seen.withLock { $0.bytes += Array(bytes) }
  }
  func streamDrained(_ s: EventLoop.Stream) {}
  func streamClosed(_ s: EventLoop.Stream, _ end: StreamEnd) { seen.withLock { $0.ended = true } }

  var text: String { String(decoding: seen.now.bytes, as: UTF8.self) }
}

@Suite("HTTP bodies that are made while they are sent", .serialized)
struct HTTPStreamTests {
  private func serve(
    limit: Int = 1_000_000, _ body: (StreamServer, Int, LoopGroup) async throws -> Void
  ) async throws {
    let group = try LoopGroup(count: 1)
    let handler = StreamServer(limit: limit)
    let server = try await HTTPServer(
      on: group, options: .init(address: .loopback(port: 0)), handler: handler)
    let clients = try LoopGroup(count: 1)
    try await body(handler, server.port, clients)
    await withCheckedContinuation { c in
      Thread.detachNewThread {
        clients.shutdown()
        group.shutdown()
        c.resume()
      }
    }
  }

  private func connect(_ reader: Reader, _ port: Int, _ group: LoopGroup) {
    let loop = group.loops[0]
    loop.execute {
      _ = try? EventLoop.Stream.connect(on: loop, to: .loopback(port: port), handler: reader)
    }
  }

  @Test("a body of unknown length comes in chunks, whole, and the connection goes on")
  func chunks() async throws {
    try await serve { handler, port, group in
      let reader = Reader("/chunks")
      connect(reader, port, group)
      #expect(await happens { reader.text.hasSuffix("\r\n0\r\n\r\n") })
      #expect(reader.text.contains("Transfer-Encoding: chunked"))
      var body: [UInt8] = []
      var rest = reader.seen.now.bytes[...]
      let end = Array("\r\n\r\n".utf8)
      while rest.count > 4, !rest.starts(with: end) { rest = rest.dropFirst() }
      rest = rest.dropFirst(4)
      while let line = rest.firstIndex(of: 13) {
        let size = Int(String(decoding: rest[..<line], as: UTF8.self), radix: 16) ?? -1
        guard size > 0 else { break }
        let start = line + 2
        body += rest[start..<start + size]
        rest = rest[(start + size + 2)...]
      }
      #expect(body.count == 1_000_000)
      let isRight = body.enumerated().allSatisfy {
        $0.element == UInt8(truncatingIfNeeded: $0.offset % 10_000)
      }
      #expect(isRight)
      #expect(!reader.seen.now.ended)
    }
  }

  @Test("a known length is told; less than that cuts the connection")
  func lengths() async throws {
    try await serve { _, port, group in
      let counted = Reader("/counted")
      connect(counted, port, group)
      #expect(await happens { counted.seen.now.bytes.count > 100_000 })
      #expect(counted.text.contains("Content-Length: 100000"))
      let short = Reader("/short")
      connect(short, port, group)
      #expect(await happens { short.seen.now.ended })
      #expect(short.seen.now.bytes.count < 100_000)
    }
  }

  @Test("a reader that holds back holds the maker back")
  func backpressure() async throws {
    try await serve(limit: 200_000_000) { handler, port, group in
      let reader = Reader("/chunks", pauses: true)
      connect(reader, port, group)
      #expect(await happens { handler.written.now > 0 })
      var before = -1
      // Until the kernel's buffers are full.
      for _ in 0..<200 where before != handler.written.now {
        before = handler.written.now
        try await Task.sleep(for: .milliseconds(100))
      }
      #expect(handler.written.now < 50_000_000)
      reader.stream.now?.execute { $0.close() }
      #expect(await happens { handler.gone.now == 1 })
    }
  }

  @Test("a reader that goes away ends a maker that has nothing to say")
  func hangUp() async throws {
    try await serve { handler, port, group in
      let reader = Reader("/silent")
      connect(reader, port, group)
      #expect(await happens { reader.text.contains("hello") })
      reader.stream.now?.execute { $0.close() }
      #expect(await happens { handler.gone.now == 1 })
    }
  }
}
