// A console's bytes, in both directions, over a websocket (either role) or a bare stream.
//
// Built so that the load itself costs little: a message that is sent many times is framed and
// masked once, and received payload that nobody looks at is skipped without being unmasked.
#pragma once

#include "transport.h"

enum framing {
  FRAMING_NONE,        // bytes as they come (websockify's upstream)
  FRAMING_WS_VIEWER,   // websocket, we are the client: our frames are masked
  FRAMING_WS_SERVER,   // websocket, we are the server: the peer's frames are masked
};

struct channel {
  struct transport transport;
  enum framing framing;
  // Received and not yet taken: buffer[head..<tail].
  uint8_t *buffer;
  size_t head, tail;
  // The data frame being received.
  uint64_t payload_left;
  uint64_t payload_taken;  // position in the frame, for the mask
  uint8_t mask[4];
  bool masked;
  // The last text frame, zero-terminated (longer ones are cut): the gateway's JSON notes.
  char text[4096];
};

// Capacity of `buffer`, and so the most that one read takes.
enum { CHANNEL_BUFFER = 256 * 1024 };

// Takes over a transport on which the bytes `early` have been received behind the upgrade.
bool channel_open(
    struct channel *channel, struct transport transport, enum framing framing, const void *early,
    size_t early_size);
void channel_close(struct channel *channel);

// Exactly `size` payload bytes, unmasked. Text frames between them are passed over, pings are
// answered.
bool channel_take(struct channel *channel, void *bytes, size_t size);
// The same, thrown away.
bool channel_skip(struct channel *channel, uint64_t size);
// Waits for the next text frame and leaves it in `text`.
bool channel_take_text(struct channel *channel);

enum channel_state { CHANNEL_QUIET, CHANNEL_DATA, CHANNEL_ENDED };
// For a descriptor that polls readable: one read at most, pings answered. CHANNEL_DATA means that
// payload is waiting and channel_take() may be called.
enum channel_state channel_pump(struct channel *channel);
// The same without reading: what the bytes already received amount to.
enum channel_state channel_peek(struct channel *channel);
// Whether TLS holds received bytes for which the descriptor will not poll readable.
bool channel_has_hidden_bytes(const struct channel *channel);

// Sends one binary frame (or bare bytes). At most 4 KiB.
bool channel_send(struct channel *channel, const void *bytes, size_t size);
// Sends one text frame. At most 4 KiB.
bool channel_send_text(struct channel *channel, const char *text);

// A message framed once and sent many times.
struct prepared {
  uint8_t *bytes;
  size_t size;
  size_t payload;  // where the payload begins
  uint8_t mask[4];
};
bool channel_prepare(
    const struct channel *channel, struct prepared *prepared, const void *payload, size_t size);
// Overwrites eight payload bytes at `offset` (a multiple of 4) with a number.
void prepared_stamp(struct prepared *prepared, size_t offset, uint64_t number);
bool channel_send_prepared(struct channel *channel, const struct prepared *prepared);
void prepared_free(struct prepared *prepared);
