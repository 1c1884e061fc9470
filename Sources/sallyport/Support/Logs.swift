import ArgumentParser
import Logging

extension Logger.Level: @retroactive ExpressibleByArgument {}

/// The log on standard error.
enum Logs {
  /// A logger for the gateway.
  static func start(_ level: Logger.Level) -> Logger {
    var logger = Logger(label: "sallyport", factory: { StreamLogHandler.standardError(label: $0) })
    logger.logLevel = level
    return logger
  }
}
