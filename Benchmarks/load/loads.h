// The loads that the generator can put on a proxy. Each takes open sessions and prints one line of
// JSON.
#pragma once

#include <stdio.h>

#include "channel.h"

struct load {
  struct channel **sessions;
  unsigned count;     // of sessions
  uint64_t bytes;     // in all, for down and up
  unsigned trips;     // round trips, for echo and quiet
  unsigned pause;     // microseconds before each round trip
  uint64_t rate;      // bytes per second of each busy session, for quiet; 0: as fast as it goes
};

// Throughput: all sessions at once, each its share of the bytes.
bool load_down(const struct load *load);
bool load_up(const struct load *load);
// Round trips on the first session, one after the other.
bool load_echo(const struct load *load);
// The same on the first session while all others receive streams.
bool load_quiet(const struct load *load);
