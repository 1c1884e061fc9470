// swift-tools-version: 6.0
import PackageDescription

let strict: [SwiftSetting] = [.swiftLanguageMode(.v6)]

let package = Package(
  name: "sallyport",
  products: [
    .executable(name: "sallyport", targets: ["sallyport"]),
    .library(name: "ProxmoxClient", targets: ["ProxmoxClient", "ConsoleProtocol"]),
    .library(name: "GuestExec", targets: ["GuestExec"]),
    .library(name: "PVESimulator", targets: ["PVESimulator"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
  ],
  targets: [
    // C libraries of the system, found by pkg-config.
    .systemLibrary(
      name: "CLibwebsockets", pkgConfig: "libwebsockets",
      providers: [.apt(["libwebsockets-dev"])]),
    .systemLibrary(
      name: "CLibcurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
    // The C that Swift can't import: variadic calls, function-like macros, GNU-only calls.
    .target(name: "CSallyport", dependencies: ["CLibcurl", "COpenSSL"]),

    .target(name: "ConsoleProtocol", swiftSettings: strict),
    .target(
      name: "EventLoop",
      dependencies: [
        "ConsoleProtocol", "CLibwebsockets", "COpenSSL", "CSallyport",
        .product(name: "HeapModule", package: "swift-collections"),
      ],
      swiftSettings: strict),
    .target(
      name: "ProxmoxClient",
      dependencies: ["ConsoleProtocol", "CLibcurl", "COpenSSL", "CSallyport"],
      swiftSettings: strict),
    .target(
      name: "PVESimulator",
      dependencies: [
        "ConsoleProtocol", "EventLoop", "COpenSSL", "CSallyport", "CZlib",
        .product(name: "GRDB", package: "GRDB.swift"),
      ],
      exclude: ["Schema/generate.py"],
      swiftSettings: strict),
    .target(
      name: "ConsoleDial",
      dependencies: ["ConsoleProtocol", "EventLoop", "ProxmoxClient", "COpenSSL"],
      swiftSettings: strict),
    .target(
      name: "GuestExec",
      dependencies: [
        "ConsoleProtocol", "EventLoop", "ProxmoxClient", "ConsoleDial", "COpenSSL", "CSallyport",
      ],
      swiftSettings: strict),
    .target(
      name: "Gateway",
      dependencies: [
        "ConsoleProtocol", "EventLoop", "ProxmoxClient", "ConsoleDial", "GuestExec", "COpenSSL",
        .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "Logging", package: "swift-log"),
        .product(name: "Yams", package: "Yams"),
      ],
      swiftSettings: strict),
    .executableTarget(
      name: "sallyport",
      dependencies: [
        "Gateway", "GuestExec", "ConsoleDial", "PVESimulator", "ProxmoxClient", "EventLoop",
        "ConsoleProtocol",
        "CSallyport",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: strict),

    // The measurements of Benchmarks/exec.py.
    .executableTarget(
      name: "exec-bench",
      dependencies: ["GuestExec", "ProxmoxClient", "EventLoop", "ConsoleProtocol"],
      path: "Benchmarks/exec", swiftSettings: strict),

    .testTarget(
      name: "ConsoleProtocolTests", dependencies: ["ConsoleProtocol"], swiftSettings: strict),
    .testTarget(
      name: "EventLoopTests", dependencies: ["EventLoop", "CSallyport", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "ProxmoxClientTests", dependencies: ["ProxmoxClient", "COpenSSL", "CSallyport"],
      resources: [.copy("Fixtures")], swiftSettings: strict),
    .testTarget(
      name: "PVESimulatorTests",
      dependencies: [
        "PVESimulator", "ProxmoxClient", "ConsoleProtocol", "COpenSSL", "CSallyport", "CZlib",
      ],
      swiftSettings: strict),
    .target(
      name: "TestSupport", dependencies: ["EventLoop", "ConsoleProtocol"],
      path: "Tests/TestSupport", swiftSettings: strict),
    .testTarget(
      name: "GuestExecTests", dependencies: ["GuestExec", "PVESimulator", "TestSupport"],
      swiftSettings: strict),
    .testTarget(
      name: "GatewayTests",
      dependencies: ["Gateway", "GuestExec", "ConsoleDial", "PVESimulator", "TestSupport"],
      swiftSettings: strict),
  ]
)
