// Many idle channels held by one thread: pings are answered, ends are noticed, and a channel that
// has payload is handed to its owner's function.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "channel.h"

struct park {
  int epoll;
  int stop;  // eventfd
  pthread_t thread;
  // Called on the park's thread; false ends the channel.
  bool (*has_data)(struct channel *channel);
  atomic_int held;
};

bool park_start(struct park *park, bool (*has_data)(struct channel *channel));
// Takes the channel; it is closed and freed when it ends.
bool park_add(struct park *park, struct channel *channel);
// Ends the thread and leaves the channels as they are, to their other owner if there is one.
void park_stop(struct park *park);
