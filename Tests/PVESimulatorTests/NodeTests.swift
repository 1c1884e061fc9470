import Testing

/// Everything that goes through real sockets, one after another: blocking clients, real programs and RSA on few
/// cores would otherwise wait for each other longer than tickets live.
@Suite("The node", .serialized)
struct NodeTests {}
