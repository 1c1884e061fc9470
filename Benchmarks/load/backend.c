// The benchmark's PVE node: REST and console websockets on one port, the same consoles without a
// websocket on another (for websockify).
//
//   backend [--certificate FILE --key FILE]     (PEM; with them both ports speak TLS)
//
// Prints one line of JSON with its ports and its certificate's fingerprint, and runs until it is
// ended.

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest.h"
#include "http.h"
#include "node.h"

static SSL_CTX *tls_context;
static struct park park;

// ---- One connection, on a thread of its own

static bool upgrade(struct transport *transport, const struct http_message *request) {
  char key[64], accept[29], protocol[64], answer[512], protocol_line[96] = "";
  if (!http_header(request, "Sec-WebSocket-Key", key, sizeof key)) return false;
  http_websocket_accept(key, accept);
  if (http_header(request, "Sec-WebSocket-Protocol", protocol, sizeof protocol)) {
    snprintf(protocol_line, sizeof protocol_line, "Sec-WebSocket-Protocol: %s\r\n", protocol);
  }
  int size = snprintf(
      answer, sizeof answer,
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
      "Sec-WebSocket-Accept: %s\r\n%s\r\n",
      accept, protocol_line);
  return transport_write(transport, answer, (size_t)size);
}

// Gives the transport to a console session.
static void serve_console(
    struct transport transport, enum framing framing, const void *early, size_t early_size) {
  struct channel *channel = malloc(sizeof *channel);
  if (channel == NULL) {
    transport_close(&transport);
  } else if (channel_open(channel, transport, framing, early, early_size)) {
    guest_serve(channel, &park);
  } else {
    free(channel);
  }
}

static void *serve_http(void *argument) {
  struct transport transport;
  if (!transport_accept(&transport, (int)(intptr_t)argument, tls_context)) return NULL;
  struct http_message *request = calloc(1, sizeof *request);
  char *answer = malloc(HTTP_MESSAGE);
  bool upgraded = false;
  while (request != NULL && answer != NULL && !upgraded && http_read(&transport, request)) {
    char method[16] = "", path[4096] = "";
    sscanf(request->bytes, "%15s %4095s", method, path);
    if (node_is_console(method, path)) {
      if (!upgrade(&transport, request)) break;
      upgraded = true;
    } else {
      size_t size = node_answer(method, path, answer, HTTP_MESSAGE);
      if (!transport_write(&transport, answer, size)) break;
    }
  }
  if (upgraded) {
    size_t used = request->head + request->body;
    serve_console(
        transport, FRAMING_WS_SERVER, request->bytes + used, request->received - used);
  } else {
    transport_close(&transport);
  }
  free(request);
  free(answer);
  return NULL;
}

static void *serve_raw(void *argument) {
  struct transport transport;
  if (transport_accept(&transport, (int)(intptr_t)argument, tls_context)) {
    serve_console(transport, FRAMING_NONE, NULL, 0);
  }
  return NULL;
}

// ---- Listening

struct listener {
  int fd;
  void *(*serve)(void *);
};

static void *accept_all(void *argument) {
  const struct listener *listener = argument;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 512 * 1024);
  for (;;) {
    int fd = accept(listener->fd, NULL, NULL);
    if (fd < 0) continue;
    pthread_t thread;
    if (pthread_create(&thread, &attributes, listener->serve, (void *)(intptr_t)fd) != 0) close(fd);
  }
  return NULL;
}

static bool load_certificate(const char *certificate, const char *key, char fingerprint[96]) {
  tls_context = SSL_CTX_new(TLS_server_method());
  if (tls_context == NULL ||
      SSL_CTX_use_certificate_file(tls_context, certificate, SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_use_PrivateKey_file(tls_context, key, SSL_FILETYPE_PEM) != 1) {
    return false;
  }
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  const X509 *loaded = SSL_CTX_get0_certificate(tls_context);
  if (X509_digest(loaded, EVP_sha256(), digest, &size) != 1) return false;
  for (unsigned i = 0; i < size; i++) sprintf(fingerprint + 3 * i, "%02X:", digest[i]);
  fingerprint[3 * size - 1] = 0;
  return true;
}

int main(int count, char **arguments) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  const char *certificate = NULL, *key = NULL;
  for (int i = 1; i + 1 < count; i += 2) {
    if (strcmp(arguments[i], "--certificate") == 0) certificate = arguments[i + 1];
    if (strcmp(arguments[i], "--key") == 0) key = arguments[i + 1];
  }
  char fingerprint[97] = "";
  if (certificate != NULL && key != NULL && !load_certificate(certificate, key, fingerprint)) {
    fprintf(stderr, "backend: can't load %s and %s\n", certificate, key);
    return 1;
  }
  uint16_t http_port, raw_port;
  struct listener http = {.fd = transport_listen(&http_port), .serve = serve_http};
  struct listener raw = {.fd = transport_listen(&raw_port), .serve = serve_raw};
  pthread_t thread;
  if (http.fd < 0 || raw.fd < 0 || !park_start(&park, guest_serve_parked) ||
      pthread_create(&thread, NULL, accept_all, &raw) != 0) {
    perror("backend");
    return 1;
  }
  printf("{\"http\":%u,\"raw\":%u,\"fingerprint\":\"%s\"}\n", http_port, raw_port, fingerprint);
  fflush(stdout);
  accept_all(&http);
}
