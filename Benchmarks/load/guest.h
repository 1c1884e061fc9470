// What the backend's VM does with a console: it serves the generator's commands.
//
// Commands are the texts of ClientCutText messages:
//   SEND <bytes> [<bytes per second>]  streams so many bytes as 64 KiB messages
//   SINK <bytes>                       takes so many bytes of 64 KiB messages, then rings the bell
//                                      (one byte)
//   YIELD                              from now on this session's thread runs when nobody else
//                                      wants the processor
//   ECHO…                              answers with a message of the same size
//   IDLE                               the session is parked: no thread of its own any more
#pragma once

#include "park.h"

// Serves one session until it ends; takes the channel (allocated with malloc).
void guest_serve(struct channel *channel, struct park *park);
// Serves one command of a parked session.
bool guest_serve_parked(struct channel *channel);
