// How the generator reaches the backend's console: straight through an opaque proxy, or by a link
// of Sallyport's.
#pragma once

#include "channel.h"

struct route {
  uint16_t port;       // of the proxy, on 127.0.0.1
  const char *path;    // what the websocket asks an opaque proxy for; NULL: go through Sallyport
  const char *key;     // Sallyport's API key
  SSL_CTX *tls;        // NULL: plain
};

// Opens session number `index` and logs in to RFB; commands may follow. What failed is said on
// stderr.
bool route_open(const struct route *route, unsigned index, struct channel *channel);
