import ConsoleProtocol

/// What a cluster stays over restarts besides what clients change: its nodes, their certificates and keys, and of what
/// seed it was made.
struct ClusterIdentity: Sendable {
  /// The name of its document, of the kind ``StateKind/meta``.
  static let id = "identity"

  var era: Era
  var clusterName: String?
  var seed: ClusterSeed?
  /// In the order of the nodes.
  var certificates: [CertificateSet]
  var nodeNames: [String]
  /// When it was made, in seconds since 1970.
  var created: Int

  init(_ configuration: SimulatorConfiguration, certificates: [CertificateSet]) {
    era = configuration.era
    clusterName = configuration.clusterName
    seed = configuration.seed
    self.certificates = certificates
    nodeNames = [configuration.nodeName] + configuration.otherNodes
    created = configuration.clock.now
  }

  /// For the person who started it with other options.
  private var description: String {
    seed.map { "a cluster of \($0)" }
      ?? "a cluster of \(nodeNames.count == 1 ? "one node" : "\(nodeNames.count) nodes")"
  }

  // MARK: the document

  /// Private keys are in it: the file that holds it is its owner's alone.
  var document: JSON {
    [
      "era": .string(era.rawValue),
      "cluster": clusterName.map { .string($0) } ?? .null,
      "seed": seed.map { seed in
        [
          "seed": .string(String(seed.seed)), "guests": .int(seed.guests),
          "nodes": .int(seed.nodes),
        ]
      } ?? .null,
      "created": .int(created),
      "nodes": .array(
        zip(nodeNames, certificates).map { name, set in
          ["name": .string(name), "certificate": set.document]
        }),
    ]
  }

  /// Nil for a document that is none.
  init?(_ document: JSON) {
    guard case .string(let era)? = document["era"], let era = Era(rawValue: era),
      case .array(let nodes)? = document["nodes"], case .int(let created)? = document["created"]
    else { return nil }
    self.era = era
    self.created = created
    if case .string(let name)? = document["cluster"] { clusterName = name }
    if let seed = document["seed"], case .string(let text)? = seed["seed"],
      let number = UInt64(text), case .int(let guests)? = seed["guests"],
      case .int(let count)? = seed["nodes"]
    {
      self.seed = ClusterSeed(seed: number, guests: guests, nodes: count)
    }
    certificates = []
    nodeNames = []
    for node in nodes {
      guard case .string(let name)? = node["name"],
        let set = node["certificate"].flatMap(CertificateSet.init(document:))
      else { return nil }
      nodeNames.append(name)
      certificates.append(set)
    }
    guard !nodeNames.isEmpty else { return nil }
  }

  /// Puts what the file holds in the place of what the configuration says.
  /// - Throws: where the configuration asks for another cluster.
  func adopt(into configuration: inout SimulatorConfiguration, path: String)
    throws(StateFailure)
  {
    if let wanted = configuration.seed, wanted != seed {
      throw .mismatch(path, why: "it holds \(description), not a cluster of \(wanted)")
    }
    let wanted = [configuration.nodeName] + configuration.otherNodes
    if configuration.seed == nil, wanted.count > 1, wanted != nodeNames {
      throw .mismatch(
        path, why: "it holds \(description), not one of \(wanted.count) named otherwise")
    }
    if configuration.adoptsEra { configuration.era = era }
    configuration.nodeName = nodeNames.first ?? configuration.nodeName
    configuration.otherNodes = Array(nodeNames.dropFirst())
    configuration.clusterName = clusterName
    if let seed {
      configuration.apply(seed)
    } else {
      // Guests that were on nodes which the file doesn't know are those of the start; they stand on the first.
      for i in configuration.guests.indices {
        guard let node = configuration.guests[i].node, !nodeNames.contains(node) else { continue }
        configuration.guests[i].node = nil
      }
    }
  }
}

extension CertificateSet {
  fileprivate var document: JSON {
    [
      "ca": .string(caPEM), "pem": .string(certificatePEM), "key": .string(keyPEM.reveal()),
      "fingerprint": .string("\(fingerprint)"), "caFingerprint": .string("\(caFingerprint)"),
      "notBefore": .int(notBefore), "notAfter": .int(notAfter), "caNotAfter": .int(caNotAfter),
      "clusterID": .string(clusterID),
      "names": .array(alternativeNames.map { .string($0) }),
    ]
  }

  fileprivate init?(document: JSON) {
    guard case .string(let ca)? = document["ca"], case .string(let pem)? = document["pem"],
      case .string(let key)? = document["key"],
      case .string(let print)? = document["fingerprint"],
      let fingerprint = Fingerprint(print),
      case .string(let caPrint)? = document["caFingerprint"],
      let caFingerprint = Fingerprint(caPrint),
      case .int(let notBefore)? = document["notBefore"],
      case .int(let notAfter)? = document["notAfter"],
      case .int(let caNotAfter)? = document["caNotAfter"],
      case .string(let clusterID)? = document["clusterID"],
      case .array(let names)? = document["names"]
    else { return nil }
    self.init(
      caPEM: ca, certificatePEM: pem, keyPEM: Secret(key), fingerprint: fingerprint,
      caFingerprint: caFingerprint, notBefore: notBefore, notAfter: notAfter,
      caNotAfter: caNotAfter, clusterID: clusterID,
      alternativeNames: names.compactMap { if case .string(let name) = $0 { name } else { nil } })
  }
}
