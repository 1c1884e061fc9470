import ArgumentParser

@main
struct Sallyport: AsyncParsableCommand {
  static let configuration = CommandConfiguration(commandName: "sallyport")
}
