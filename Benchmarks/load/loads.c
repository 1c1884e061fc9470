#define _GNU_SOURCE
#include "loads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "rfb.h"
#include "viewer.h"

// ---- Throughput

struct worker {
  struct channel *channel;
  uint64_t bytes;
  pthread_barrier_t *start;
  bool (*work)(struct channel *channel, uint64_t bytes);
  bool good;
  pthread_t thread;
};

static void *work(void *argument) {
  struct worker *worker = argument;
  pthread_barrier_wait(worker->start);
  worker->good = worker->work(worker->channel, worker->bytes);
  return NULL;
}

static bool take_stream(struct channel *channel, uint64_t bytes) {
  char command[64];
  snprintf(command, sizeof command, "SEND %llu", (unsigned long long)bytes);
  return viewer_command(channel, command) && viewer_take_stream(channel, bytes, NULL);
}

static bool run_throughput(
    const struct load *load, bool (*function)(struct channel *channel, uint64_t bytes)) {
  struct worker *workers = calloc(load->count, sizeof *workers);
  if (workers == NULL) return false;
  pthread_barrier_t start;
  pthread_barrier_init(&start, NULL, load->count + 1);
  // Whole messages for each.
  uint64_t share = load->bytes / load->count / BULK_MESSAGE * BULK_MESSAGE;
  for (unsigned i = 0; i < load->count; i++) {
    workers[i] = (struct worker){
        .channel = load->sessions[i], .bytes = share, .start = &start, .work = function};
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) abort();
  }
  uint64_t began = viewer_nanoseconds();
  pthread_barrier_wait(&start);
  bool good = true;
  for (unsigned i = 0; i < load->count; i++) {
    pthread_join(workers[i].thread, NULL);
    good = good && workers[i].good;
  }
  double seconds = (double)(viewer_nanoseconds() - began) / 1e9;
  pthread_barrier_destroy(&start);
  free(workers);
  if (good) {
    printf(
        "{\"bytes\":%llu,\"seconds\":%.6f}\n", (unsigned long long)(share * load->count), seconds);
  }
  return good;
}

bool load_down(const struct load *load) { return run_throughput(load, take_stream); }

bool load_up(const struct load *load) { return run_throughput(load, viewer_send_stream); }

// ---- Round trips

static int compare(const void *left, const void *right) {
  uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
  return (a > b) - (a < b);
}

// Makes the round trips and prints their distribution, with the bytes that streamed beside them
// meanwhile.
static bool measure_trips(const struct load *load, const atomic_ullong *beside) {
  struct channel *channel = load->sessions[0];
  unsigned trips = load->trips;
  uint64_t *times = calloc(trips, sizeof *times);
  if (times == NULL) return false;
  bool good = true;
  for (unsigned i = 0; good && i < trips / 10; i++) good = viewer_echo(channel);
  unsigned long long before = beside != NULL ? atomic_load(beside) : 0;
  uint64_t began = viewer_nanoseconds();
  for (unsigned i = 0; good && i < trips; i++) {
    if (load->pause > 0) usleep(load->pause);
    uint64_t sent = viewer_nanoseconds();
    good = viewer_echo(channel);
    times[i] = viewer_nanoseconds() - sent;
  }
  if (good) {
    double seconds = (double)(viewer_nanoseconds() - began) / 1e9;
    unsigned long long bytes = beside != NULL ? atomic_load(beside) - before : 0;
    qsort(times, trips, sizeof *times, compare);
    printf(
        "{\"trips\":%u,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f,\"seconds\":%.3f,\"bytes\":%llu}\n",
        trips, (double)times[trips / 2] / 1e3, (double)times[trips * 99ull / 100] / 1e3,
        (double)times[trips - 1] / 1e3, seconds, bytes);
  }
  free(times);
  return good;
}

bool load_echo(const struct load *load) {
  return measure_trips(load, NULL);
}

// ---- A quiet session beside busy ones

struct busy {
  struct channel *channel;
  uint64_t rate;
  atomic_bool *stop;
  atomic_ullong *received;
  bool good;
  pthread_t thread;
};

static void *be_busy(void *argument) {
  struct busy *busy = argument;
  // The load must not compete with the proxy and the quiet session for the processor: what is
  // measured is how long the proxy lets a message wait, not how long the kernel does. Linux: 0 is
  // the calling thread.
  const struct sched_param none = {0};
  sched_setscheduler(0, SCHED_IDLE, &none);
  // Short enough to end soon after the stop, long enough that commands don't matter.
  uint64_t bytes = busy->rate > 0 ? busy->rate / 16 / BULK_MESSAGE * BULK_MESSAGE : 16 << 20;
  if (bytes == 0) bytes = BULK_MESSAGE;
  char command[64];
  snprintf(
      command, sizeof command, "SEND %llu %llu", (unsigned long long)bytes,
      (unsigned long long)busy->rate);
  busy->good = viewer_command(busy->channel, "YIELD");
  while (busy->good && !atomic_load(busy->stop)) {
    busy->good = viewer_command(busy->channel, command) &&
                 viewer_take_stream(busy->channel, bytes, busy->received);
  }
  return NULL;
}

bool load_quiet(const struct load *load) {
  unsigned count = load->count - 1;
  struct busy *others = calloc(count + 1, sizeof *others);
  if (others == NULL) return false;
  atomic_bool stop = false;
  atomic_ullong received = 0;
  for (unsigned i = 0; i < count; i++) {
    others[i] = (struct busy){
        .channel = load->sessions[i + 1], .rate = load->rate, .stop = &stop, .received = &received};
    if (pthread_create(&others[i].thread, NULL, be_busy, &others[i]) != 0) abort();
  }
  // Not before the streams flow.
  for (int i = 0; i < 2000 && atomic_load(&received) < (uint64_t)count << 20; i++) usleep(1000);
  bool good = measure_trips(load, &received);
  atomic_store(&stop, true);
  for (unsigned i = 0; i < count; i++) {
    pthread_join(others[i].thread, NULL);
    good = good && others[i].good;
  }
  free(others);
  return good;
}
