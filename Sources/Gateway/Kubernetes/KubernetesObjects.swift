import ConsoleProtocol
import EventLoop
import Foundation
import ProxmoxClient

/// A cluster, node or guest as an object of the Kubernetes API.
struct KubernetesObject: Sendable {
  /// The only container of a pod; transports may be named in its place.
  static let container = "guest"

  let kind: String
  let name: String
  /// The cluster; empty for what is in none.
  let namespace: String
  let labels: [String: String]
  let phase: String
  let node: String
  /// The guest's name.
  let title: String
  /// `qemu/100`
  let place: String
  let started: Date?
  private let spec: [String: JSONValue]
  private let status: [String: JSONValue]

  // MARK: Kinds

  static func namespace(_ cluster: String) -> KubernetesObject {
    KubernetesObject(
      kind: "Namespace", name: cluster, namespace: "",
      labels: ["kubernetes.io/metadata.name": cluster], phase: "Active", node: "", title: "",
      place: "", started: nil, spec: [:], status: ["phase": .string("Active")])
  }

  static func node(_ node: Inventory.Node, cluster: String) -> KubernetesObject {
    let isOnline = node.status == "online"
    var capacity: [String: JSONValue] = [:]
    if let cores = node.maxcpu { capacity["cpu"] = .string(cores.formatted) }
    if let memory = node.maxmem { capacity["memory"] = .string(String(memory)) }
    return KubernetesObject(
      kind: "Node", name: node.node.value, namespace: "",
      labels: ["kubernetes.io/hostname": node.node.value, "sallyport/cluster": cluster],
      phase: isOnline ? "Ready" : "NotReady", node: node.node.value, title: cluster,
      place: "node/\(node.node)", started: node.uptime.map(Self.since), spec: [:],
      status: [
        "capacity": .object(capacity), "allocatable": .object(capacity),
        "conditions": .array([
          .object([
            "type": .string("Ready"), "status": .string(isOnline ? "True" : "False"),
            "reason": .string(node.status.isEmpty ? "unknown" : node.status),
          ])
        ]),
      ])
  }

  /// The guests and nodes of a cluster. Templates, which can't run, are left out.
  /// - Parameter named: the name by which a guest was asked for; its pod then has it.
  static func pods(
    _ inventory: Inventory, cluster: String, named: String? = nil
  ) -> [KubernetesObject] {
    let nodes = inventory.nodes.map { node in
      pod(
        "node-\(node.node)", cluster: cluster, type: "node", node: node.node.value, title: "",
        place: "node/\(node.node)", tags: [], isRunning: node.status == "online",
        state: node.status, uptime: node.uptime)
    }
    let guests = inventory.guests.filter { !$0.template }.map { guest in
      pod(
        named != nil && guest.name == named ? named ?? "" : "\(guest.type)-\(guest.vmid)",
        cluster: cluster, type: guest.type,
        node: guest.node.value, title: guest.name ?? "", place: guest.place.description,
        tags: guest.tags, isRunning: guest.status == "running", state: guest.status,
        uptime: guest.uptime)
    }
    return nodes + guests
  }

  private static func pod(
    _ name: String, cluster: String, type: String, node: String, title: String, place: String,
    tags: [String], isRunning: Bool, state: String, uptime: Int?
  ) -> KubernetesObject {
    var labels = ["sallyport/type": type, "sallyport/node": node]
    if !title.isEmpty { labels["sallyport/name"] = title }
    for tag in tags { labels["tag/\(tag)"] = "" }
    let started = isRunning ? uptime.map(since) : nil
    var status: [String: JSONValue] = [
      "phase": .string(isRunning ? "Running" : "Succeeded"),
      "conditions": .array([
        .object([
          "type": .string("Ready"), "status": .string(isRunning ? "True" : "False"),
          "reason": .string(state),
        ])
      ]),
      "containerStatuses": .array([
        .object([
          "name": .string(container), "ready": .bool(isRunning), "started": .bool(isRunning),
          "restartCount": .int(0), "image": .string(type), "imageID": .string(""),
          "state": isRunning
            ? .object([
              "running": .object(started.map { ["startedAt": .string($0.rfc3339)] } ?? [:])
            ])
            : .object(["terminated": .object(["exitCode": .int(0), "reason": .string(state)])]),
        ])
      ]),
    ]
    if let started { status["startTime"] = .string(started.rfc3339) }
    return KubernetesObject(
      kind: "Pod", name: name, namespace: cluster, labels: labels,
      phase: isRunning ? "Running" : "Succeeded", node: node, title: title, place: place,
      started: started,
      spec: [
        "nodeName": .string(node), "restartPolicy": .string("Never"),
        "containers": .array([.object(["name": .string(container), "image": .string(type)])]),
      ],
      status: status)
  }

  private static func since(_ uptime: Int) -> Date {
    Date(timeIntervalSince1970: (Date().timeIntervalSince1970 - Double(uptime)).rounded())
  }

  // MARK: JSON

  var metadata: JSONValue {
    var out: [String: JSONValue] = [
      "name": .string(name), "uid": .string(place.isEmpty ? name : "\(namespace):\(place)"),
      "resourceVersion": .string("1"), "labels": .object(labels.mapValues { .string($0) }),
    ]
    if !namespace.isEmpty { out["namespace"] = .string(namespace) }
    if let started { out["creationTimestamp"] = .string(started.rfc3339) }
    if kind == "Pod" {
      out["annotations"] = .object([
        "kubectl.kubernetes.io/default-container": .string(Self.container),
        "sallyport/target": .string(place),
      ])
    }
    return .object(out)
  }

  var json: JSONValue {
    .object([
      "kind": .string(kind), "apiVersion": .string("v1"), "metadata": metadata,
      "spec": .object(spec), "status": .object(status),
    ])
  }
}

extension Double {
  fileprivate var formatted: String { Int(exactly: self).map(String.init) ?? String(self) }
}

/// A list as kubectl prints it: the server makes the columns.
struct KubernetesTable: Sendable {
  struct Column: Sendable {
    let name: String
    /// 0 for always, 1 for `-o wide`.
    let priority: Int
    let cell: @Sendable (KubernetesObject) -> JSONValue
  }

  let columns: [Column]

  static let pods = KubernetesTable(columns: [
    Column(name: "Name", priority: 0) { .string($0.name) },
    Column(name: "Ready", priority: 0) { .string($0.phase == "Running" ? "1/1" : "0/1") },
    Column(name: "Status", priority: 0) { .string($0.phase) },
    Column(name: "Restarts", priority: 0) { _ in .int(0) },
    Column(name: "Age", priority: 0) { .string(age($0.started)) },
    Column(name: "Guest", priority: 0) { .string($0.title.isEmpty ? "<none>" : $0.title) },
    Column(name: "Node", priority: 1) { .string($0.node) },
  ])

  static let nodes = KubernetesTable(columns: [
    Column(name: "Name", priority: 0) { .string($0.name) },
    Column(name: "Status", priority: 0) { .string($0.phase) },
    Column(name: "Age", priority: 0) { .string(age($0.started)) },
    Column(name: "Cluster", priority: 0) { .string($0.title) },
  ])

  static let namespaces = KubernetesTable(columns: [
    Column(name: "Name", priority: 0) { .string($0.name) },
    Column(name: "Status", priority: 0) { .string($0.phase) },
  ])

  /// Whether a client asks for one.
  static func isWanted(_ request: HTTPRequest) -> Bool {
    (request.headers["accept"] ?? "").split(separator: ",").contains { part in
      part.contains("as=Table") && part.contains("json")
    }
  }

  func json(_ objects: [KubernetesObject]) -> JSONValue {
    .object([
      "kind": .string("Table"), "apiVersion": .string("meta.k8s.io/v1"),
      "metadata": .object(["resourceVersion": .string("1")]),
      "columnDefinitions": .array(
        columns.map {
          .object([
            "name": .string($0.name),
            "type": .string($0.name == "Restarts" ? "integer" : "string"),
            "format": .string($0.name == "Name" ? "name" : ""), "description": .string(""),
            "priority": .int($0.priority),
          ])
        }),
      "rows": .array(
        objects.map { object in
          .object([
            "cells": .array(columns.map { $0.cell(object) }),
            "object": .object([
              "kind": .string("PartialObjectMetadata"), "apiVersion": .string("meta.k8s.io/v1"),
              "metadata": object.metadata,
            ]),
          ])
        }),
    ])
  }

  /// A duration in the manner of kubectl: two units for the small ones.
  static func age(_ started: Date?) -> String {
    guard let started else { return "<none>" }
    let seconds = max(0, Int(Date().timeIntervalSince(started)))
    switch seconds {
    case ..<120: return "\(seconds)s"
    case ..<600: return "\(seconds / 60)m\(seconds % 60)s"
    case ..<10_800: return "\(seconds / 60)m"
    case ..<28_800: return "\(seconds / 3600)h\(seconds % 3600 / 60)m"
    case ..<172_800: return "\(seconds / 3600)h"
    case ..<691_200: return "\(seconds / 86_400)d\(seconds % 86_400 / 3600)h"
    default: return "\(seconds / 86_400)d"
    }
  }
}
