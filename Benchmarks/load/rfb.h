// The RFB (VNC) that the load speaks: version 3.8, security type None, and cut texts as envelopes.
//
// Everything after the login is a legal RFB message, so a gateway that follows the protocol (for
// view-only sessions, say) sees nothing strange: the generator says what it wants in ClientCutText
// messages, and the backend streams ServerCutText messages.
#pragma once

#include "channel.h"

// The size on the wire of a bulk message, header included, in both directions.
enum { BULK_MESSAGE = 64 * 1024, CUT_TEXT_HEADER = 8 };
// Where a bulk message carries its number, and where a client's text begins.
enum { STAMP_OFFSET = CUT_TEXT_HEADER };

enum { CLIENT_CUT_TEXT = 6, SERVER_BELL = 2, SERVER_CUT_TEXT = 3 };

// The server's and the viewer's side of the login, up to and including ServerInit.
bool rfb_serve_login(struct channel *channel);
bool rfb_join(struct channel *channel);

// Fills a whole cut text message of `size` bytes (header included) with filler and writes its
// header.
void rfb_cut_text(uint8_t *message, uint8_t type, size_t size);

// Server: reads client messages up to and including the next ClientCutText's header; `*size` is its
// text's length. Other messages are passed over: a gateway may send some of its own.
bool rfb_next_client_text(struct channel *channel, uint32_t *size);
