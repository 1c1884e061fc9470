#include "rfb.h"

#include <string.h>

static const char banner[] = "RFB 003.008\n";
enum { BANNER_SIZE = 12, SECURITY_NONE = 1 };

static uint32_t big_endian_32(const uint8_t *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

bool rfb_serve_login(struct channel *channel) {
  static const uint8_t types[] = {1, SECURITY_NONE};
  static const uint8_t accepted[4] = {0};
  static const uint8_t server_init[] = {
      4, 0, 3, 0,                                                 // 1024 by 768
      32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0,    // 32 bits a pixel, true colour
      0, 0, 0, 5, 'b', 'e', 'n', 'c', 'h'};
  uint8_t version[BANNER_SIZE], choice, shared;
  return channel_send(channel, banner, BANNER_SIZE) &&
         channel_take(channel, version, BANNER_SIZE) && memcmp(version, "RFB 003.", 8) == 0 &&
         channel_send(channel, types, sizeof types) && channel_take(channel, &choice, 1) &&
         choice == SECURITY_NONE && channel_send(channel, accepted, sizeof accepted) &&
         channel_take(channel, &shared, 1) &&
         channel_send(channel, server_init, sizeof server_init);
}

bool rfb_join(struct channel *channel) {
  uint8_t version[BANNER_SIZE], count, types[255], result[4], init[24];
  const uint8_t choice = SECURITY_NONE, shared = 1;
  return channel_take(channel, version, BANNER_SIZE) && memcmp(version, banner, BANNER_SIZE) == 0 &&
         channel_send(channel, banner, BANNER_SIZE) && channel_take(channel, &count, 1) &&
         count > 0 && channel_take(channel, types, count) &&
         memchr(types, SECURITY_NONE, count) != NULL && channel_send(channel, &choice, 1) &&
         channel_take(channel, result, sizeof result) && big_endian_32(result) == 0 &&
         channel_send(channel, &shared, 1) && channel_take(channel, init, sizeof init) &&
         channel_skip(channel, big_endian_32(init + 20));
}

void rfb_cut_text(uint8_t *message, uint8_t type, size_t size) {
  size_t text = size - CUT_TEXT_HEADER;
  for (size_t i = CUT_TEXT_HEADER; i < size; i++) message[i] = (uint8_t)(i * 31 + (i >> 8));
  memset(message, 0, 4);
  message[0] = type;
  for (int i = 0; i < 4; i++) message[4 + i] = (uint8_t)(text >> (24 - 8 * i));
}

bool rfb_next_client_text(struct channel *channel, uint32_t *size) {
  for (;;) {
    uint8_t type, head[7];
    if (!channel_take(channel, &type, 1)) return false;
    switch (type) {
      case CLIENT_CUT_TEXT:
        if (!channel_take(channel, head, 7)) return false;
        *size = big_endian_32(head + 3);
        return true;
      case 0:  // SetPixelFormat
        if (!channel_skip(channel, 19)) return false;
        break;
      case 2:  // SetEncodings
        if (!channel_take(channel, head, 3)) return false;
        if (!channel_skip(channel, 4 * (uint64_t)(head[1] << 8 | head[2]))) return false;
        break;
      case 3:  // FramebufferUpdateRequest
        if (!channel_skip(channel, 9)) return false;
        break;
      case 4:  // KeyEvent
        if (!channel_skip(channel, 7)) return false;
        break;
      case 5:  // PointerEvent
        if (!channel_skip(channel, 5)) return false;
        break;
      default: return false;
    }
  }
}
