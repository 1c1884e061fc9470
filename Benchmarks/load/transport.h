// A blocking byte stream on the loopback interface: TCP, with TLS over it where an SSL is present.
#pragma once

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct transport {
  int fd;
  SSL *tls;  // NULL: plain TCP
};

// A listening socket on 127.0.0.1; `*port` is chosen by the kernel. -1 on failure.
int transport_listen(uint16_t *port);

// Connects to 127.0.0.1:`port`; with `context`, does the TLS handshake as a client (nothing is
// verified: the load never leaves the machine).
bool transport_dial(struct transport *transport, uint16_t port, SSL_CTX *context);

// Takes over an accepted descriptor; with `context`, does the TLS handshake as a server. The
// descriptor is closed on failure.
bool transport_accept(struct transport *transport, int fd, SSL_CTX *context);

// At most `size` bytes: the count, 0 at the end of the stream, -1 on an error.
ssize_t transport_read(struct transport *transport, void *bytes, size_t size);

// All `size` bytes, or false.
bool transport_write(struct transport *transport, const void *bytes, size_t size);

void transport_close(struct transport *transport);
