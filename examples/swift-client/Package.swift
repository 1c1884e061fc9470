// swift-tools-version: 6.0
import PackageDescription

let package = Package(
  name: "swift-client",
  dependencies: [.package(name: "sallyport", path: "../..")],
  targets: [
    .executableTarget(
      name: "Inventory",
      dependencies: [.product(name: "ProxmoxClient", package: "sallyport")])
  ]
)
