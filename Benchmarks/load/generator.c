// The benchmark's viewers.
//
//   generator --port PORT (--path PATH | --key-file FILE) [--tls]
//             --load down|up|echo|quiet|idle --sessions N
//             [--bytes N] [--trips N] [--pause N] [--rate N] [--used N]
//
// The runner leads it by lines, so that it can read the proxy's counters between the steps: the
// generator opens its sessions and says `ready`, waits for a line, does its load and prints one
// line of JSON, waits for a line and ends.

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "loads.h"
#include "park.h"
#include "route.h"
#include "viewer.h"

struct options {
  struct route route;
  struct load load;
  const char *name;  // of the load
  uint64_t used;     // bytes that each idle session receives before it idles
};

// The first line of the file, or NULL.
static const char *read_key(const char *file) {
  static char key[256];
  FILE *stream = fopen(file, "r");
  if (stream == NULL) return NULL;
  bool good = fgets(key, sizeof key, stream) != NULL;
  fclose(stream);
  key[strcspn(key, "\r\n")] = 0;
  return good ? key : NULL;
}

static bool parse(int count, char **arguments, struct options *options) {
  *options = (struct options){.load = {.count = 1, .bytes = 1 << 30, .trips = 5000}};
  for (int i = 1; i < count; i++) {
    const char *name = arguments[i];
    if (strcmp(name, "--tls") == 0) {
      options->route.tls = SSL_CTX_new(TLS_client_method());
      continue;
    }
    const char *value = ++i < count ? arguments[i] : "";
    unsigned long long number = strtoull(value, NULL, 10);
    if (strcmp(name, "--port") == 0) options->route.port = (uint16_t)number;
    else if (strcmp(name, "--path") == 0) options->route.path = value;
    else if (strcmp(name, "--key-file") == 0) options->route.key = read_key(value);
    else if (strcmp(name, "--load") == 0) options->name = value;
    else if (strcmp(name, "--sessions") == 0) options->load.count = (unsigned)number;
    else if (strcmp(name, "--bytes") == 0) options->load.bytes = number;
    else if (strcmp(name, "--trips") == 0) options->load.trips = (unsigned)number;
    else if (strcmp(name, "--pause") == 0) options->load.pause = (unsigned)number;
    else if (strcmp(name, "--rate") == 0) options->load.rate = number;
    else if (strcmp(name, "--used") == 0) options->used = number;
    else {
      fprintf(stderr, "generator: what is %s %s?\n", name, value);
      return false;
    }
  }
  return options->name != NULL && options->route.port != 0 && options->load.count > 0 &&
         (options->route.path != NULL || options->route.key != NULL);
}

// ---- Opening, a few at a time

enum { OPENERS = 4 };

struct opener {
  const struct options *options;
  unsigned first;  // this one and every OPENERS-th after it
  bool good;
  pthread_t thread;
};

static void *open_sessions(void *argument) {
  struct opener *opener = argument;
  const struct load *load = &opener->options->load;
  opener->good = true;
  for (unsigned i = opener->first; opener->good && i < load->count; i += OPENERS) {
    struct channel *channel = malloc(sizeof *channel);
    opener->good = channel != NULL && route_open(&opener->options->route, i, channel);
    if (opener->good) load->sessions[i] = channel;
    else free(channel);
  }
  return NULL;
}

static bool open_all(const struct options *options) {
  struct opener openers[OPENERS];
  for (unsigned i = 0; i < OPENERS; i++) {
    openers[i] = (struct opener){.options = options, .first = i};
    if (pthread_create(&openers[i].thread, NULL, open_sessions, &openers[i]) != 0) abort();
  }
  bool good = true;
  for (unsigned i = 0; i < OPENERS; i++) {
    pthread_join(openers[i].thread, NULL);
    good = good && openers[i].good;
  }
  return good;
}

// ---- Idling

static bool nothing_is_expected(struct channel *channel) {
  (void)channel;
  fprintf(stderr, "generator: an idle session received bytes\n");
  return false;
}

static bool go_idle(const struct options *options, struct park *park) {
  char command[64];
  snprintf(command, sizeof command, "SEND %llu", (unsigned long long)options->used);
  for (unsigned i = 0; i < options->load.count; i++) {
    struct channel *channel = options->load.sessions[i];
    bool good = (options->used == 0 || (viewer_command(channel, command) &&
                                        viewer_take_stream(channel, options->used, NULL))) &&
                viewer_command(channel, "IDLE") && park_add(park, channel);
    if (!good) return false;
  }
  return true;
}

// Each session that was held must still answer.
static bool report_idle(const struct options *options, struct park *park, double open_seconds) {
  unsigned held = (unsigned)atomic_load(&park->held), alive = 0;
  park_stop(park);
  if (held == options->load.count) {  // else some are freed
    for (unsigned i = 0; i < options->load.count; i++) {
      alive += viewer_echo(options->load.sessions[i]);
    }
  }
  printf("{\"held\":%u,\"alive\":%u,\"open_seconds\":%.3f}\n", held, alive, open_seconds);
  return true;
}

// ---- The steps

static void wait_for_runner(void) {
  int character;
  fflush(stdout);
  do character = getchar();
  while (character != '\n' && character != EOF);
}

static bool run_load(const struct options *options) {
  if (strcmp(options->name, "down") == 0) return load_down(&options->load);
  if (strcmp(options->name, "up") == 0) return load_up(&options->load);
  if (strcmp(options->name, "echo") == 0) return load_echo(&options->load);
  if (strcmp(options->name, "quiet") == 0) return load_quiet(&options->load);
  fprintf(stderr, "generator: no load is called %s\n", options->name);
  return false;
}

int main(int count, char **arguments) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  struct options options;
  if (!parse(count, arguments, &options)) return 2;
  options.load.sessions = calloc(options.load.count, sizeof *options.load.sessions);
  if (options.load.sessions == NULL) return 1;

  uint64_t began = viewer_nanoseconds();
  if (!open_all(&options)) return 1;
  double open_seconds = (double)(viewer_nanoseconds() - began) / 1e9;
  bool good;
  if (strcmp(options.name, "idle") == 0) {
    struct park park;
    if (!park_start(&park, nothing_is_expected) || !go_idle(&options, &park)) return 1;
    puts("ready");
    wait_for_runner();
    good = report_idle(&options, &park, open_seconds);
  } else {
    puts("ready");
    wait_for_runner();
    good = run_load(&options);
  }
  if (!good) return 1;
  wait_for_runner();
  return 0;
}
