import Foundation

/// A self-signed certificate for `localhost` and 127.0.0.1, made by the openssl program.
package struct TestCertificate {
  package let pem: String
  package let key: String
  package let certificateFile: String
  package let keyFile: String

  package init() throws {
    let folder = try testFolder()
    certificateFile = folder.appendingPathComponent("cert.pem").path
    keyFile = folder.appendingPathComponent("key.pem").path
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
    process.arguments = [
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
      "-days",
      "2", "-subj", "/CN=pve1", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
      "-keyout",
      keyFile, "-out", certificateFile,
    ]
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    pem = try String(contentsOfFile: certificateFile, encoding: .utf8)
    key = try String(contentsOfFile: keyFile, encoding: .utf8)
  }
}

/// A folder of this process's that is gone when it ends.
func testFolder() throws -> URL {
  let base = FileManager.default.temporaryDirectory.appendingPathComponent(
    "sallyport-tests-\(ProcessInfo.processInfo.processIdentifier)")
  atexit {
    let mine = FileManager.default.temporaryDirectory.appendingPathComponent(
      "sallyport-tests-\(ProcessInfo.processInfo.processIdentifier)")
    try? FileManager.default.removeItem(at: mine)
  }
  let folder = base.appendingPathComponent(UUID().uuidString)
  try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  return folder
}
