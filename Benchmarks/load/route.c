#include "route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "node.h"
#include "rfb.h"

static bool failed(const char *what, const char *detail) {
  fprintf(stderr, "generator: %s: %.300s\n", what, detail);
  return false;
}

// ---- Sallyport's side of it: POST /v1/consoles, then the `open` message

enum { LONGEST_TOKEN = 256 };

static bool request_link(const struct route *route, unsigned index, char token[LONGEST_TOKEN]) {
  struct transport transport;
  if (!transport_dial(&transport, route->port, route->tls)) return failed("connecting", "refused");
  char body[128], request[1024];
  int body_size = snprintf(
      body, sizeof body, "{\"target\":\"qemu/%u\",\"console\":\"vnc\"}", 100 + index % NODE_GUESTS);
  int size = snprintf(
      request, sizeof request,
      "POST /v1/consoles HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nAuthorization: Bearer %s\r\n"
      "Content-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
      route->port, route->key, body_size, body);
  struct http_message *answer = calloc(1, sizeof *answer);
  bool answered = answer != NULL && transport_write(&transport, request, (size_t)size) &&
                  http_read(&transport, answer);
  transport_close(&transport);
  const char *found = answered ? strstr(answer->bytes + answer->head, "\"token\"") : NULL;
  bool good = found != NULL &&
              sscanf(found, "\"token\" : \"%255[^\"]\"", token) == 1;
  if (!good) failed("POST /v1/consoles", answered ? answer->bytes : "no answer");
  free(answer);
  return good;
}

static bool open_with_token(struct channel *channel, const char *token) {
  char open[LONGEST_TOKEN + 64];
  snprintf(open, sizeof open, "{\"type\":\"open\",\"token\":\"%s\"}", token);
  if (!channel_send_text(channel, open)) return failed("sending the open message", "closed");
  while (channel_take_text(channel)) {
    if (strstr(channel->text, "\"ready\"") != NULL) return true;
    if (strstr(channel->text, "\"ended\"") != NULL) break;
  }
  return failed("waiting for ready", channel->text);
}

// ---- The websocket

static bool upgrade(
    const struct route *route, const char *path, const char *protocol, struct channel *channel) {
  struct transport transport;
  if (!transport_dial(&transport, route->port, route->tls)) return failed("connecting", "refused");
  char request[1024];
  int size = snprintf(
      request, sizeof request,
      "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nOrigin: http://127.0.0.1:%u\r\n"
      "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Key: YmVuY2htYXJrLWxvYWQtMQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
      path, route->port, route->port, protocol);
  struct http_message *answer = calloc(1, sizeof *answer);
  bool upgraded = answer != NULL && transport_write(&transport, request, (size_t)size) &&
                  http_read(&transport, answer) && strncmp(answer->bytes, "HTTP/1.1 101", 12) == 0;
  if (upgraded) {
    upgraded = channel_open(
        channel, transport, FRAMING_WS_VIEWER, answer->bytes + answer->head,
        answer->received - answer->head);
  } else {
    failed("upgrading", answer != NULL ? answer->bytes : "no memory");
    transport_close(&transport);
  }
  free(answer);
  return upgraded;
}

bool route_open(const struct route *route, unsigned index, struct channel *channel) {
  char token[LONGEST_TOKEN];
  bool through_sallyport = route->path == NULL;
  if (through_sallyport && !request_link(route, index, token)) return false;
  const char *path = through_sallyport ? "/v1/viewer" : route->path;
  const char *protocol = through_sallyport ? "sallyport.v1" : "binary";
  if (!upgrade(route, path, protocol, channel)) return false;
  if (through_sallyport && !open_with_token(channel, token)) {
    channel_close(channel);
    return false;
  }
  if (rfb_join(channel)) return true;
  failed("RFB login", channel->text);
  channel_close(channel);
  return false;
}
