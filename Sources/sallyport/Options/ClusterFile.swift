import ConsoleProtocol
import Foundation
import Gateway
import Glibc
import ProxmoxClient

/// The configuration file as the commands without a gateway use it: for its clusters.
enum ClusterFile {
  /// The file that is taken where none is named.
  static var found: String? {
    var places = ["/etc/sallyport/sallyport.yaml"]
    if let home = Environment["HOME"] {
      places.insert("\(home)/.config/sallyport/sallyport.yaml", at: 0)
    }
    return places.first { access($0, R_OK) == 0 }
  }

  /// Its clusters, secrets read.
  static func clusters(in file: String) throws(Failure) -> [ClusterConfiguration] {
    try Serving.load(file, ProcessInfo.processInfo.environment).clusters
  }
}
