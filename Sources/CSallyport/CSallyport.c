#define _GNU_SOURCE
#include "CSallyport.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

int sp_open_pty(int *master, int *slave, unsigned short columns, unsigned short rows) {
  int m = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (m < 0) return -1;
  char name[64];
  if (grantpt(m) != 0 || unlockpt(m) != 0 || ptsname_r(m, name, sizeof name) != 0) {
    int e = errno;
    close(m);
    errno = e;
    return -1;
  }
  int s = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (s < 0) {
    int e = errno;
    close(m);
    errno = e;
    return -1;
  }
  sp_set_window_size(s, columns, rows);
  *master = m;
  *slave = s;
  return 0;
}

int sp_set_window_size(int fd, unsigned short columns, unsigned short rows) {
  struct winsize w;
  memset(&w, 0, sizeof w);
  w.ws_col = columns;
  w.ws_row = rows;
  return ioctl(fd, TIOCSWINSZ, &w);
}

int sp_get_window_size(int fd, unsigned short *columns, unsigned short *rows) {
  struct winsize w;
  if (ioctl(fd, TIOCGWINSZ, &w) != 0) return -1;
  *columns = w.ws_col;
  *rows = w.ws_row;
  return 0;
}

int sp_accept(int fd) { return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int sp_peek(int fd) {
  unsigned char first;
  ssize_t count;
  do count = recv(fd, &first, 1, MSG_PEEK);
  while (count < 0 && errno == EINTR);
  if (count == 1) return first;
  return count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? -1 : -2;
}

const void *sp_find(const void *bytes, size_t count, const void *wanted, size_t wanted_count) {
  return memmem(bytes, count, wanted, wanted_count);
}

int sp_stream_socket(int family) { return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

int sp_stream_type(void) { return SOCK_STREAM; }

void sp_no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void sp_v6_only(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
}

int sp_timer_create(void) { return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC); }

int sp_timer_arm(int fd, uint64_t nanoseconds) {
  struct itimerspec t;
  memset(&t, 0, sizeof t);
  t.it_value.tv_sec = (time_t)(nanoseconds / 1000000000u);
  t.it_value.tv_nsec = (long)(nanoseconds % 1000000000u);
  return timerfd_settime(fd, 0, &t, NULL);
}

void sp_map_allocations_from(int bytes) { mallopt(M_MMAP_THRESHOLD, bytes); }

void sp_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int sp_exit_status(int s) { return WIFEXITED(s) ? WEXITSTATUS(s) : -1; }
int sp_term_signal(int s) { return WIFSIGNALED(s) ? WTERMSIG(s) : 0; }
