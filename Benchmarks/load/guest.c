#define _GNU_SOURCE
#include "guest.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rfb.h"

enum { LONGEST_COMMAND = 64 };

static uint64_t now_nanoseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void sleep_until(uint64_t nanoseconds) {
  struct timespec time = {
      .tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u)};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static bool send_stream(struct channel *channel, uint64_t bytes, uint64_t bytes_per_second) {
  uint8_t message[BULK_MESSAGE];
  struct prepared prepared;
  rfb_cut_text(message, SERVER_CUT_TEXT, sizeof message);
  if (!channel_prepare(channel, &prepared, message, sizeof message)) return false;
  uint64_t start = now_nanoseconds();
  bool sent = true;
  for (uint64_t i = 0; sent && i < bytes / BULK_MESSAGE; i++) {
    if (bytes_per_second > 0) {
      sleep_until(start + i * BULK_MESSAGE * 1000000000u / bytes_per_second);
    }
    prepared_stamp(&prepared, STAMP_OFFSET, i);
    sent = channel_send_prepared(channel, &prepared);
  }
  prepared_free(&prepared);
  return sent;
}

static bool sink_stream(struct channel *channel, uint64_t bytes) {
  const uint8_t bell = SERVER_BELL;
  for (uint64_t i = 0; i < bytes / BULK_MESSAGE; i++) {
    uint32_t size;
    uint64_t number;
    if (!rfb_next_client_text(channel, &size) || size != BULK_MESSAGE - CUT_TEXT_HEADER ||
        !channel_take(channel, &number, sizeof number) || number != i ||
        !channel_skip(channel, size - sizeof number)) {
      fprintf(stderr, "backend: message %llu of a stream is damaged\n", (unsigned long long)i);
      return false;
    }
  }
  return channel_send(channel, &bell, 1);
}

static bool echo(struct channel *channel, const uint8_t *text, uint32_t size) {
  uint8_t message[CUT_TEXT_HEADER + LONGEST_COMMAND];
  rfb_cut_text(message, SERVER_CUT_TEXT, CUT_TEXT_HEADER + size);
  memcpy(message + CUT_TEXT_HEADER, text, size);
  return channel_send(channel, message, CUT_TEXT_HEADER + size);
}

enum served { SERVED, SERVED_IDLE, SERVED_END };

static enum served serve_command(struct channel *channel) {
  uint32_t size;
  char text[LONGEST_COMMAND + 1];
  if (!rfb_next_client_text(channel, &size) || size > LONGEST_COMMAND ||
      !channel_take(channel, text, size)) {
    return SERVED_END;
  }
  text[size] = 0;
  unsigned long long bytes = 0, rate = 0;
  bool good;
  if (strncmp(text, "ECHO", 4) == 0) {
    good = echo(channel, (const uint8_t *)text, size);
  } else if (strcmp(text, "IDLE") == 0) {
    return SERVED_IDLE;
  } else if (strcmp(text, "YIELD") == 0) {
    const struct sched_param none = {0};
    good = sched_setscheduler(0, SCHED_IDLE, &none) == 0;  // this thread only
  } else if (sscanf(text, "SEND %llu %llu", &bytes, &rate) >= 1) {
    good = send_stream(channel, bytes, rate);
  } else if (sscanf(text, "SINK %llu", &bytes) == 1) {
    good = sink_stream(channel, bytes);
  } else {
    fprintf(stderr, "backend: unknown command %s\n", text);
    good = false;
  }
  return good ? SERVED : SERVED_END;
}

void guest_serve(struct channel *channel, struct park *park) {
  enum served served = rfb_serve_login(channel) ? SERVED : SERVED_END;
  while (served == SERVED) served = serve_command(channel);
  if (served == SERVED_IDLE && park_add(park, channel)) return;
  channel_close(channel);
  free(channel);
}

bool guest_serve_parked(struct channel *channel) { return serve_command(channel) == SERVED; }
