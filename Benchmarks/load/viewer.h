// One viewer's conversation with the backend's guest: the generator's side of guest.h.
#pragma once

#include <stdatomic.h>

#include "channel.h"

// Sends a command to the guest.
bool viewer_command(struct channel *channel, const char *text);
// Takes `bytes` of stream that a SEND command asked for; every message's header and number is
// checked, and its size is added to `received` unless that is NULL.
bool viewer_take_stream(struct channel *channel, uint64_t bytes, atomic_ullong *received);
// SINK, the stream, and the guest's final byte.
bool viewer_send_stream(struct channel *channel, uint64_t bytes);
// One round trip of a 64-byte message each way.
bool viewer_echo(struct channel *channel);

uint64_t viewer_nanoseconds(void);  // monotonic clock
