#include "channel.h"

#include <stdlib.h>
#include <string.h>

enum { OPCODE_TEXT = 1, OPCODE_BINARY = 2, OPCODE_CLOSE = 8, OPCODE_PING = 9, OPCODE_PONG = 10 };
enum { SMALL_FRAME = 4096, LARGEST_HEADER = 14 };

// Any four bytes do on the loopback interface; all zero would spare the peers the unmasking that a
// browser's frames cost them.
static const uint8_t viewer_mask[4] = {0x5a, 0xc3, 0x96, 0x1e};

bool channel_open(
    struct channel *channel, struct transport transport, enum framing framing, const void *early,
    size_t early_size) {
  *channel = (struct channel){.transport = transport, .framing = framing};
  channel->buffer = malloc(CHANNEL_BUFFER);
  if (channel->buffer == NULL || early_size > CHANNEL_BUFFER) {
    channel_close(channel);
    return false;
  }
  memcpy(channel->buffer, early, early_size);
  channel->tail = early_size;
  return true;
}

void channel_close(struct channel *channel) {
  free(channel->buffer);
  channel->buffer = NULL;
  transport_close(&channel->transport);
}

// ---- Sending

// Writes a frame header; returns its size.
static size_t frame_header(uint8_t *out, uint8_t opcode, size_t size, const uint8_t *mask) {
  size_t at = 0;
  out[at++] = 0x80 | opcode;
  uint8_t mask_bit = mask != NULL ? 0x80 : 0;
  if (size < 126) {
    out[at++] = mask_bit | (uint8_t)size;
  } else if (size < 65536) {
    out[at++] = mask_bit | 126;
    out[at++] = (uint8_t)(size >> 8);
    out[at++] = (uint8_t)size;
  } else {
    out[at++] = mask_bit | 127;
    for (int shift = 56; shift >= 0; shift -= 8) out[at++] = (uint8_t)((uint64_t)size >> shift);
  }
  if (mask != NULL) {
    memcpy(out + at, mask, 4);
    at += 4;
  }
  return at;
}

static void apply_mask(uint8_t *bytes, size_t size, const uint8_t mask[4], uint64_t phase) {
  for (size_t i = 0; i < size; i++) bytes[i] ^= mask[(phase + i) & 3];
}

static bool send_frame(struct channel *channel, uint8_t opcode, const void *bytes, size_t size) {
  if (channel->framing == FRAMING_NONE) return transport_write(&channel->transport, bytes, size);
  if (size > SMALL_FRAME) return false;
  const uint8_t *mask = channel->framing == FRAMING_WS_VIEWER ? viewer_mask : NULL;
  uint8_t frame[LARGEST_HEADER + SMALL_FRAME];
  size_t header = frame_header(frame, opcode, size, mask);
  memcpy(frame + header, bytes, size);
  if (mask != NULL) apply_mask(frame + header, size, mask, 0);
  return transport_write(&channel->transport, frame, header + size);
}

bool channel_send(struct channel *channel, const void *bytes, size_t size) {
  return send_frame(channel, OPCODE_BINARY, bytes, size);
}

bool channel_send_text(struct channel *channel, const char *text) {
  return send_frame(channel, OPCODE_TEXT, text, strlen(text));
}

bool channel_prepare(
    const struct channel *channel, struct prepared *prepared, const void *payload, size_t size) {
  *prepared = (struct prepared){.bytes = malloc(LARGEST_HEADER + size)};
  if (prepared->bytes == NULL) return false;
  if (channel->framing == FRAMING_WS_VIEWER) memcpy(prepared->mask, viewer_mask, 4);
  if (channel->framing != FRAMING_NONE) {
    const uint8_t *mask = channel->framing == FRAMING_WS_VIEWER ? viewer_mask : NULL;
    prepared->payload = frame_header(prepared->bytes, OPCODE_BINARY, size, mask);
  }
  memcpy(prepared->bytes + prepared->payload, payload, size);
  apply_mask(prepared->bytes + prepared->payload, size, prepared->mask, 0);
  prepared->size = prepared->payload + size;
  return true;
}

void prepared_stamp(struct prepared *prepared, size_t offset, uint64_t number) {
  uint8_t *at = prepared->bytes + prepared->payload + offset;
  memcpy(at, &number, sizeof number);
  apply_mask(at, sizeof number, prepared->mask, 0);
}

bool channel_send_prepared(struct channel *channel, const struct prepared *prepared) {
  return transport_write(&channel->transport, prepared->bytes, prepared->size);
}

void prepared_free(struct prepared *prepared) {
  free(prepared->bytes);
  prepared->bytes = NULL;
}

// ---- Receiving

static bool fill(struct channel *channel) {
  if (channel->head == channel->tail) {
    channel->head = channel->tail = 0;
  } else if (channel->tail == CHANNEL_BUFFER) {
    if (channel->head == 0) return false;  // a text or control frame larger than the buffer
    memmove(channel->buffer, channel->buffer + channel->head, channel->tail - channel->head);
    channel->tail -= channel->head;
    channel->head = 0;
  }
  ssize_t count = transport_read(
      &channel->transport, channel->buffer + channel->tail, CHANNEL_BUFFER - channel->tail);
  if (count <= 0) return false;
  channel->tail += (size_t)count;
  return true;
}

enum parsed { PARSED_NOTHING, PARSED_DATA, PARSED_TEXT, PARSED_CONTROL, PARSED_END };

// Reads one frame header off the buffer, and the whole frame unless it is a binary one.
static enum parsed parse(struct channel *channel) {
  size_t held = channel->tail - channel->head;
  if (channel->framing == FRAMING_NONE) {
    channel->payload_left = held;
    return held > 0 ? PARSED_DATA : PARSED_NOTHING;
  }
  if (channel->payload_left > 0) return PARSED_DATA;
  const uint8_t *at = channel->buffer + channel->head;
  if (held < 2) return PARSED_NOTHING;
  size_t length_bytes = (at[1] & 127) == 127 ? 8 : (at[1] & 127) == 126 ? 2 : 0;
  bool masked = (at[1] & 0x80) != 0;
  size_t header = 2 + length_bytes + (masked ? 4 : 0);
  if (held < header) return PARSED_NOTHING;
  uint64_t size = length_bytes > 0 ? 0 : at[1] & 127;
  for (size_t i = 0; i < length_bytes; i++) size = size << 8 | at[2 + i];
  uint8_t opcode = at[0] & 15;

  if (opcode == OPCODE_BINARY || opcode == 0) {
    channel->masked = masked;
    if (masked) memcpy(channel->mask, at + 2 + length_bytes, 4);
    channel->head += header;
    channel->payload_left = size;
    channel->payload_taken = 0;
    return size > 0 ? PARSED_DATA : PARSED_CONTROL;
  }

  if (size > SMALL_FRAME || held < header + size) {
    return size > SMALL_FRAME ? PARSED_END : PARSED_NOTHING;
  }
  uint8_t *payload = channel->buffer + channel->head + header;
  if (masked) apply_mask(payload, size, payload - 4, 0);
  channel->head += header + size;
  switch (opcode) {
    case OPCODE_TEXT:
    case OPCODE_CLOSE: {
      size_t skipped = opcode == OPCODE_CLOSE && size >= 2 ? 2 : 0;  // the close code
      size_t kept = size - skipped;
      if (kept >= sizeof channel->text) kept = sizeof channel->text - 1;
      memcpy(channel->text, payload + skipped, kept);
      channel->text[kept] = 0;
      return opcode == OPCODE_TEXT ? PARSED_TEXT : PARSED_END;
    }
    case OPCODE_PING:
      return send_frame(channel, OPCODE_PONG, payload, size) ? PARSED_CONTROL : PARSED_END;
    case OPCODE_PONG: return PARSED_CONTROL;
    default: return PARSED_END;
  }
}

// Waits until payload is in the buffer; false at the end.
static bool wait_for_payload(struct channel *channel) {
  for (;;) {
    enum parsed parsed = parse(channel);
    if (parsed == PARSED_END) return false;
    if (parsed == PARSED_DATA && channel->head < channel->tail) return true;
    if ((parsed == PARSED_NOTHING || parsed == PARSED_DATA) && !fill(channel)) return false;
  }
}

// How much of `size` can be taken from the buffer now.
static size_t at_hand(const struct channel *channel, uint64_t size) {
  uint64_t count = channel->tail - channel->head;
  if (count > channel->payload_left) count = channel->payload_left;
  return (size_t)(count < size ? count : size);
}

static void advance(struct channel *channel, size_t count) {
  channel->head += count;
  channel->payload_left -= count;
  channel->payload_taken += count;
}

bool channel_take(struct channel *channel, void *bytes, size_t size) {
  uint8_t *out = bytes;
  while (size > 0) {
    if (!wait_for_payload(channel)) return false;
    size_t count = at_hand(channel, size);
    memcpy(out, channel->buffer + channel->head, count);
    if (channel->masked) apply_mask(out, count, channel->mask, channel->payload_taken);
    advance(channel, count);
    out += count;
    size -= count;
  }
  return true;
}

bool channel_skip(struct channel *channel, uint64_t size) {
  while (size > 0) {
    if (!wait_for_payload(channel)) return false;
    size_t count = at_hand(channel, size);
    advance(channel, count);
    size -= count;
  }
  return true;
}

bool channel_take_text(struct channel *channel) {
  for (;;) {
    switch (parse(channel)) {
      case PARSED_TEXT: return true;
      case PARSED_CONTROL: break;
      case PARSED_NOTHING:
        if (!fill(channel)) return false;
        break;
      case PARSED_DATA:  // payload before the text that the caller waits for
      case PARSED_END: return false;
    }
  }
}

enum channel_state channel_peek(struct channel *channel) {
  for (;;) {
    switch (parse(channel)) {
      case PARSED_NOTHING: return CHANNEL_QUIET;
      case PARSED_DATA: return channel->head < channel->tail ? CHANNEL_DATA : CHANNEL_QUIET;
      case PARSED_END: return CHANNEL_ENDED;
      case PARSED_TEXT:
      case PARSED_CONTROL: break;
    }
  }
}

enum channel_state channel_pump(struct channel *channel) {
  return fill(channel) ? channel_peek(channel) : CHANNEL_ENDED;
}

bool channel_has_hidden_bytes(const struct channel *channel) {
  return channel->transport.tls != NULL && SSL_pending(channel->transport.tls) > 0;
}
