// One request, again and again, over a number of connections that are kept open as long as the
// server lets them: what a client of an HTTP API does. One thread; TLS verifies nothing, because
// the load never leaves the machine.
//
//   requests --port P --request FILE [--tls] --connections N (--seconds S | --count C)
//
// FILE holds the request as it goes over the wire. Prints one line of JSON.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 16 * 1024, CHUNK = 256 * 1024, SAMPLES = 4 * 1000 * 1000 };

struct options {
  uint16_t port;
  unsigned connections;
  double seconds;
  uint64_t count;
  bool tls;
  char *request;
  size_t size;
};

enum phase { CONNECTING, SHAKING, WRITING, HEADING, BODY };

struct connection {
  int fd;
  SSL *tls;
  enum phase phase;
  uint32_t polled;
  size_t written, received;
  uint64_t left;  // of the body
  bool to_end, closes;
  uint64_t began;
  char head[HEAD + 1];
};

struct run {
  const struct options *options;
  SSL_CTX *context;
  int epoll;
  uint64_t done, opened, bytes, failed, finish;
  uint32_t *samples;
  char *chunk;
};

static uint64_t nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "requests: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void poll_for(struct run *run, struct connection *c, uint32_t events) {
  if (events == c->polled) return;
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(run->epoll, c->polled == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event) != 0) {
    die("epoll_ctl");
  }
  c->polled = events;
}

static void open_connection(struct run *run, struct connection *c) {
  struct sockaddr_in address = {
      .sin_family = AF_INET,
      .sin_port = htons(run->options->port),
      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int on = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (c->fd < 0) die("socket");
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
    die("connect");
  }
  c->tls = NULL;
  if (run->context != NULL) {
    c->tls = SSL_new(run->context);
    SSL_set_fd(c->tls, c->fd);
    SSL_set_connect_state(c->tls);
  }
  c->phase = CONNECTING;
  c->polled = 0;
  run->opened++;
  poll_for(run, c, EPOLLOUT);
}

static void close_connection(struct connection *c) {
  if (c->tls != NULL) {
    SSL_shutdown(c->tls);
    SSL_free(c->tls);
  }
  close(c->fd);
}

// The count; 0 when it would block; -1 at the end or on an error.
static ssize_t receive(struct connection *c, char *bytes, size_t size, uint32_t *wants) {
  ssize_t count;
  *wants = EPOLLIN;
  if (c->tls == NULL) {
    count = recv(c->fd, bytes, size, 0);
    if (count > 0) return count;
    return count < 0 && errno == EAGAIN ? 0 : -1;
  }
  count = SSL_read(c->tls, bytes, (int)size);
  if (count > 0) return count;
  int error = SSL_get_error(c->tls, (int)count);
  if (error == SSL_ERROR_WANT_WRITE) *wants = EPOLLOUT;
  return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static ssize_t transmit(struct connection *c, const char *bytes, size_t size, uint32_t *wants) {
  ssize_t count;
  *wants = EPOLLOUT;
  if (c->tls == NULL) {
    count = send(c->fd, bytes, size, MSG_NOSIGNAL);
    if (count > 0) return count;
    return count < 0 && errno == EAGAIN ? 0 : -1;
  }
  count = SSL_write(c->tls, bytes, (int)size);
  if (count > 0) return count;
  int error = SSL_get_error(c->tls, (int)count);
  if (error == SSL_ERROR_WANT_READ) *wants = EPOLLIN;
  return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static const char *header(const char *head, const char *name) {
  size_t size = strlen(name);
  for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
    line += 2;
    if (strncasecmp(line, name, size) == 0 && line[size] == ':') {
      return line + size + 1 + strspn(line + size + 1, " ");
    }
  }
  return NULL;
}

// The head is complete: `end` is behind it.
static void read_head(struct run *run, struct connection *c, size_t end) {
  char *rest = c->head + end;
  char behind = *rest;
  *rest = 0;
  if (strncmp(c->head, "HTTP/1.", 7) != 0 || strncmp(c->head + 8, " 200", 4) != 0) {
    if (run->failed++ == 0) {
      fprintf(stderr, "requests: %.*s\n", (int)strcspn(c->head, "\r\n"), c->head);
    }
  }
  const char *length = header(c->head, "Content-Length"), *kept = header(c->head, "Connection");
  c->closes = kept != NULL && strncasecmp(kept, "close", 5) == 0;
  c->to_end = length == NULL;
  c->left = length == NULL ? 0 : strtoull(length, NULL, 10);
  *rest = behind;
  uint64_t more = c->received - end;
  c->left -= more < c->left ? more : c->left;
  run->bytes += c->received;
  c->phase = BODY;
}

static void finish_request(struct run *run, struct connection *c) {
  if (run->done < SAMPLES) run->samples[run->done] = (uint32_t)((nanoseconds() - c->began) / 1000);
  run->done++;
  if (c->closes || c->to_end) {
    close_connection(c);
    open_connection(run, c);
  } else {
    c->phase = WRITING;
    c->written = 0;
  }
}

static void step(struct run *run, struct connection *c) {
  uint32_t wants = 0;
  for (;;) {
    switch (c->phase) {
      case CONNECTING: c->phase = c->tls != NULL ? SHAKING : WRITING; c->written = 0; break;
      case SHAKING: {
        int result = SSL_do_handshake(c->tls);
        if (result == 1) {
          c->phase = WRITING;
          break;
        }
        int error = SSL_get_error(c->tls, result);
        if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
          fprintf(stderr, "requests: no TLS\n");
          exit(1);
        }
        poll_for(run, c, error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
        return;
      }
      case WRITING: {
        if (c->written == 0) c->began = nanoseconds();
        const struct options *o = run->options;
        ssize_t n = transmit(c, o->request + c->written, o->size - c->written, &wants);
        if (n < 0) die("a request could not be sent");
        if (n == 0) {
          poll_for(run, c, wants);
          return;
        }
        c->written += (size_t)n;
        if (c->written == o->size) {
          c->phase = HEADING;
          c->received = 0;
          poll_for(run, c, EPOLLIN);
          if (c->tls == NULL || SSL_pending(c->tls) == 0) return;
        }
        break;
      }
      case HEADING: {
        ssize_t n = receive(c, c->head + c->received, HEAD - c->received, &wants);
        if (n < 0) die("no answer");
        if (n == 0) {
          poll_for(run, c, wants);
          return;
        }
        c->received += (size_t)n;
        c->head[c->received] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (end != NULL) read_head(run, c, (size_t)(end - c->head) + 4);
        else if (c->received == HEAD) die("an endless head");
        break;
      }
      case BODY: {
        if (c->left == 0 && !c->to_end) {
          finish_request(run, c);
          if (run->options->count != 0 && run->done >= run->options->count) return;
          break;
        }
        ssize_t n = receive(c, run->chunk, CHUNK, &wants);
        if (n == 0) {
          poll_for(run, c, wants);
          return;
        }
        if (n < 0) {
          if (!c->to_end) die("an answer was cut");
          finish_request(run, c);
          break;
        }
        run->bytes += (uint64_t)n;
        c->left -= (uint64_t)n < c->left ? (uint64_t)n : c->left;
        break;
      }
    }
  }
}

static int by_size(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

static bool parse(int count, char **arguments, struct options *options) {
  static const struct option names[] = {
      {"port", required_argument, NULL, 'p'},        {"request", required_argument, NULL, 'r'},
      {"tls", no_argument, NULL, 't'},               {"connections", required_argument, NULL, 'c'},
      {"seconds", required_argument, NULL, 's'},     {"count", required_argument, NULL, 'n'},
      {0}};
  const char *file = NULL;
  *options = (struct options){.connections = 1};
  for (int name; (name = getopt_long(count, arguments, "", names, NULL)) != -1;) {
    switch (name) {
      case 'p': options->port = (uint16_t)atoi(optarg); break;
      case 'r': file = optarg; break;
      case 't': options->tls = true; break;
      case 'c': options->connections = (unsigned)atoi(optarg); break;
      case 's': options->seconds = atof(optarg); break;
      case 'n': options->count = strtoull(optarg, NULL, 10); break;
      default: return false;
    }
  }
  FILE *in = file == NULL ? NULL : fopen(file, "rb");
  if (in == NULL || options->port == 0 || options->connections == 0) return false;
  options->request = malloc(HEAD);
  options->size = options->request == NULL ? 0 : fread(options->request, 1, HEAD, in);
  fclose(in);
  return options->size > 0 && (options->seconds > 0 || options->count > 0);
}

int main(int count, char **arguments) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  struct options options;
  if (!parse(count, arguments, &options)) {
    fprintf(stderr, "requests: --port, --request, --seconds or --count are needed\n");
    return 2;
  }
  struct run run = {.options = &options, .epoll = epoll_create1(EPOLL_CLOEXEC)};
  run.samples = malloc(SAMPLES * sizeof *run.samples);
  run.chunk = malloc(CHUNK);
  struct connection *connections = calloc(options.connections, sizeof *connections);
  if (run.samples == NULL || run.chunk == NULL || connections == NULL || run.epoll < 0) return 1;
  if (options.tls) {
    run.context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_options(run.context, SSL_OP_IGNORE_UNEXPECTED_EOF);
  }
  uint64_t began = nanoseconds();
  for (unsigned i = 0; i < options.connections; i++) open_connection(&run, &connections[i]);
  uint64_t limit = began + (uint64_t)((options.seconds > 0 ? options.seconds : 120) * 1e9);
  uint64_t now = began;
  while (now < limit && (options.count == 0 || run.done < options.count)) {
    struct epoll_event events[64];
    int ready = epoll_wait(run.epoll, events, 64, 1000);
    for (int i = 0; i < ready; i++) step(&run, events[i].data.ptr);
    now = nanoseconds();
  }
  double seconds = (double)(now - began) / 1e9;
  size_t samples = run.done < SAMPLES ? run.done : SAMPLES;
  if (samples == 0) {
    fprintf(stderr, "requests: nothing was answered\n");
    return 1;
  }
  qsort(run.samples, samples, sizeof *run.samples, by_size);
  printf(
      "{\"requests\":%llu,\"failed\":%llu,\"seconds\":%.6f,\"connections\":%llu,\"bytes\":%llu,"
      "\"p50\":%u,\"p99\":%u}\n",
      (unsigned long long)run.done, (unsigned long long)run.failed, seconds,
      (unsigned long long)run.opened, (unsigned long long)run.bytes, run.samples[samples / 2],
      run.samples[samples * 99 / 100]);
  return run.failed == 0 ? 0 : 1;
}
