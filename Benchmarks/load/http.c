#define _GNU_SOURCE
#include "http.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool http_read(struct transport *transport, struct http_message *message) {
  size_t used = message->head + message->body;
  memmove(message->bytes, message->bytes + used, message->received - used);
  message->received -= used;
  message->head = message->body = 0;
  for (;;) {
    message->bytes[message->received] = 0;
    if (message->head == 0) {
      char *end = strstr(message->bytes, "\r\n\r\n");
      if (end != NULL) {
        message->head = (size_t)(end - message->bytes) + 4;
        char length[16];
        if (http_header(message, "Content-Length", length, sizeof length)) {
          message->body = strtoul(length, NULL, 10);
        }
      }
    }
    if (message->head > 0 && message->received >= message->head + message->body) return true;
    if (message->received == HTTP_MESSAGE || message->body > HTTP_MESSAGE) return false;
    ssize_t count = transport_read(
        transport, message->bytes + message->received, HTTP_MESSAGE - message->received);
    if (count <= 0) return false;
    message->received += (size_t)count;
  }
}

bool http_header(
    const struct http_message *message, const char *name, char *value, size_t capacity) {
  size_t name_size = strlen(name);
  const char *line = message->bytes;
  const char *end = message->bytes + message->head;
  while ((line = strstr(line, "\r\n")) != NULL && line < end) {
    line += 2;
    if (strncasecmp(line, name, name_size) != 0 || line[name_size] != ':') continue;
    const char *from = line + name_size + 1;
    from += strspn(from, " \t");
    size_t size = strcspn(from, "\r\n");
    if (size >= capacity) return false;
    memcpy(value, from, size);
    value[size] = 0;
    return true;
  }
  return false;
}

void http_websocket_accept(const char *key, char accept[29]) {
  char text[128];
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  snprintf(text, sizeof text, "%.64s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
  EVP_Digest(text, strlen(text), digest, &size, EVP_sha1(), NULL);
  EVP_EncodeBlock((unsigned char *)accept, digest, (int)size);
}
