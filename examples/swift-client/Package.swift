// swift-tools-version: 6.0
import PackageDescription

let package = Package(
  name: "swift-client",
  dependencies: [.package(name: "sallyport", path: "../..")],
  targets: [
    .executableTarget(
      name: "Inventory",
      dependencies: [.product(name: "ProxmoxClient", package: "sallyport")]),
    // The node is in the test's own process: nothing to install, nothing to start.
    .testTarget(
      name: "InventoryTests",
      dependencies: [
        .product(name: "ProxmoxClient", package: "sallyport"),
        .product(name: "PVESimulator", package: "sallyport"),
      ]),
  ]
)
