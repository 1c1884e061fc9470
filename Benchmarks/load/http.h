// The little of HTTP/1.1 that the load needs: heads, keep-alive, the websocket upgrade.
#pragma once

#include "transport.h"

enum { HTTP_MESSAGE = 16 * 1024 };

// A request or response with a body of known length, and what has been received behind it.
struct http_message {
  char bytes[HTTP_MESSAGE + 1];  // zero-terminated
  size_t received;
  size_t head;  // size of the head, its empty line included
  size_t body;  // size of the body
};

// Reads one message. Bytes behind the one before (its `received - head - body`) are used first.
// False at the end of the stream or when the message is over 16 KiB.
bool http_read(struct transport *transport, struct http_message *message);

// Copies a header's value (name without the colon); false where it is absent or does not fit.
bool http_header(
    const struct http_message *message, const char *name, char *value, size_t capacity);

// The value of Sec-WebSocket-Accept for a key: 28 characters and a zero.
void http_websocket_accept(const char *key, char accept[29]);
