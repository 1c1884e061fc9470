#include "park.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

// Serves all that one readiness event brought. False when the channel has ended.
static bool serve(struct park *park, struct channel *channel) {
  do {
    enum channel_state state = channel_pump(channel);
    while (state == CHANNEL_DATA) {
      if (!park->has_data(channel)) return false;
      state = channel_peek(channel);
    }
    if (state == CHANNEL_ENDED) return false;
  } while (channel_has_hidden_bytes(channel));
  return true;
}

static void *run(void *argument) {
  struct park *park = argument;
  struct epoll_event events[64];
  for (;;) {
    int count = epoll_wait(park->epoll, events, 64, -1);
    for (int i = 0; i < count; i++) {
      struct channel *channel = events[i].data.ptr;
      if (channel == NULL) return NULL;
      if (serve(park, channel)) continue;
      epoll_ctl(park->epoll, EPOLL_CTL_DEL, channel->transport.fd, NULL);
      channel_close(channel);
      free(channel);
      atomic_fetch_sub(&park->held, 1);
    }
  }
}

bool park_start(struct park *park, bool (*has_data)(struct channel *channel)) {
  *park = (struct park){
      .epoll = epoll_create1(EPOLL_CLOEXEC), .stop = eventfd(0, EFD_CLOEXEC), .has_data = has_data};
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  return park->epoll >= 0 && park->stop >= 0 &&
         epoll_ctl(park->epoll, EPOLL_CTL_ADD, park->stop, &event) == 0 &&
         pthread_create(&park->thread, NULL, run, park) == 0;
}

bool park_add(struct park *park, struct channel *channel) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = channel};
  atomic_fetch_add(&park->held, 1);
  if (epoll_ctl(park->epoll, EPOLL_CTL_ADD, channel->transport.fd, &event) == 0) return true;
  atomic_fetch_sub(&park->held, 1);
  return false;
}

void park_stop(struct park *park) {
  const uint64_t one = 1;
  if (write(park->stop, &one, sizeof one) == sizeof one) pthread_join(park->thread, NULL);
  close(park->stop);
  close(park->epoll);
}
