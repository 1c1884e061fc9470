#define _GNU_SOURCE
#include "transport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in loopback(uint16_t port) {
  struct sockaddr_in address = {
      .sin_family = AF_INET,
      .sin_port = htons(port),
      .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
  };
  return address;
}

int transport_listen(uint16_t *port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  struct sockaddr_in address = loopback(0);
  socklen_t length = sizeof address;
  if (bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 4096) != 0 ||
      getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
    close(fd);
    return -1;
  }
  *port = ntohs(address.sin_port);
  return fd;
}

// Small messages are what the round trip measures, so none may wait for a fuller segment.
static void send_at_once(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// Adds TLS to a connected socket: `handshake` is SSL_connect or SSL_accept.
static bool add_tls(struct transport *transport, SSL_CTX *context, int (*handshake)(SSL *)) {
  if (context == NULL) return true;
  transport->tls = SSL_new(context);
  if (transport->tls != NULL && SSL_set_fd(transport->tls, transport->fd) == 1 &&
      handshake(transport->tls) == 1) {
    return true;
  }
  transport_close(transport);
  return false;
}

bool transport_dial(struct transport *transport, uint16_t port, SSL_CTX *context) {
  *transport = (struct transport){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (transport->fd < 0) return false;
  struct sockaddr_in address = loopback(port);
  if (connect(transport->fd, (struct sockaddr *)&address, sizeof address) != 0) {
    transport_close(transport);
    return false;
  }
  send_at_once(transport->fd);
  return add_tls(transport, context, SSL_connect);
}

bool transport_accept(struct transport *transport, int fd, SSL_CTX *context) {
  *transport = (struct transport){.fd = fd};
  send_at_once(fd);
  return add_tls(transport, context, SSL_accept);
}

ssize_t transport_read(struct transport *transport, void *bytes, size_t size) {
  if (transport->tls != NULL) {
    int wanted = size > INT_MAX ? INT_MAX : (int)size;
    int count = SSL_read(transport->tls, bytes, wanted);
    if (count > 0) return count;
    return SSL_get_error(transport->tls, count) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
  }
  ssize_t count;
  do count = recv(transport->fd, bytes, size, 0);
  while (count < 0 && errno == EINTR);
  return count;
}

bool transport_write(struct transport *transport, const void *bytes, size_t size) {
  const uint8_t *next = bytes;
  while (size > 0) {
    ssize_t count;
    if (transport->tls != NULL) {
      count = SSL_write(transport->tls, next, size > INT_MAX ? INT_MAX : (int)size);
    } else {
      count = send(transport->fd, next, size, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
    }
    if (count <= 0) return false;
    next += count;
    size -= (size_t)count;
  }
  return true;
}

void transport_close(struct transport *transport) {
  if (transport->tls != NULL) SSL_free(transport->tls);
  if (transport->fd >= 0) close(transport->fd);
  *transport = (struct transport){.fd = -1};
}
