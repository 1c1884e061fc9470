#define _GNU_SOURCE
#include "viewer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "rfb.h"

enum { ECHO_MESSAGE = 64 };

uint64_t viewer_nanoseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

bool viewer_command(struct channel *channel, const char *text) {
  uint8_t message[CUT_TEXT_HEADER + 64];
  size_t size = strlen(text);
  rfb_cut_text(message, CLIENT_CUT_TEXT, CUT_TEXT_HEADER + size);
  memcpy(message + CUT_TEXT_HEADER, text, size);
  return channel_send(channel, message, CUT_TEXT_HEADER + size);
}

bool viewer_take_stream(struct channel *channel, uint64_t bytes, atomic_ullong *received) {
  uint8_t expected[BULK_MESSAGE], head[CUT_TEXT_HEADER];
  rfb_cut_text(expected, SERVER_CUT_TEXT, sizeof expected);
  for (uint64_t i = 0; i < bytes / BULK_MESSAGE; i++) {
    uint64_t number;
    if (!channel_take(channel, head, sizeof head) ||
        !channel_take(channel, &number, sizeof number)) {
      fprintf(stderr, "generator: the stream ended early: %s\n", channel->text);
      return false;
    }
    if (memcmp(head, expected, sizeof head) != 0 || number != i) {
      fprintf(stderr, "generator: message %llu is damaged\n", (unsigned long long)i);
      return false;
    }
    if (!channel_skip(channel, BULK_MESSAGE - sizeof head - sizeof number)) return false;
    if (received != NULL) atomic_fetch_add(received, BULK_MESSAGE);
  }
  return true;
}

bool viewer_send_stream(struct channel *channel, uint64_t bytes) {
  uint8_t message[BULK_MESSAGE], bell;
  char command[64];
  struct prepared prepared;
  snprintf(command, sizeof command, "SINK %llu", (unsigned long long)bytes);
  rfb_cut_text(message, CLIENT_CUT_TEXT, sizeof message);
  if (!viewer_command(channel, command) ||
      !channel_prepare(channel, &prepared, message, sizeof message)) {
    return false;
  }
  bool sent = true;
  for (uint64_t i = 0; sent && i < bytes / BULK_MESSAGE; i++) {
    prepared_stamp(&prepared, STAMP_OFFSET, i);
    sent = channel_send_prepared(channel, &prepared);
  }
  prepared_free(&prepared);
  return sent && channel_take(channel, &bell, 1) && bell == SERVER_BELL;
}

bool viewer_echo(struct channel *channel) {
  uint8_t sent[ECHO_MESSAGE], received[ECHO_MESSAGE];
  rfb_cut_text(sent, CLIENT_CUT_TEXT, sizeof sent);
  memcpy(sent + CUT_TEXT_HEADER, "ECHO", 4);
  if (!channel_send(channel, sent, sizeof sent) ||
      !channel_take(channel, received, sizeof received)) {
    return false;
  }
  sent[0] = SERVER_CUT_TEXT;  // the answer is the same but for its type
  return memcmp(sent, received, sizeof sent) == 0;
}
