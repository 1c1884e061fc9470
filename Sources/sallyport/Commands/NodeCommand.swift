import ArgumentParser
struct NodeCommand: AsyncParsableCommand {
  func run() async throws {}
}
