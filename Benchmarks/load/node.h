// The smallest PVE node that a console gateway accepts: the REST answers it asks for on its way to
// a VM's screen. Nothing is checked; what is right or wrong is for the tests' strict peer to say.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// Number of VMs that the node has: vmid 100 and up, so that a gateway that opens one console of a
// VM at a time is not held up by that.
enum { NODE_GUESTS = 16 };

// Whether this is a request for a console's websocket.
bool node_is_console(const char *method, const char *path);

// Writes the whole HTTP answer into `out`; returns its size.
size_t node_answer(const char *method, const char *path, char *out, size_t capacity);
