// Signals as bytes of a pipe, and a terminal whose settings come back whatever happens. Both are C because what runs
// inside a signal handler may not touch Swift's runtime.
#define _GNU_SOURCE
#include "CSallyport.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static int signal_pipe[2] = {-1, -1};

int sp_signals_open(void) {
  if (signal_pipe[0] >= 0) return signal_pipe[0];
  return pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) == 0 ? signal_pipe[0] : -1;
}

static void tell(int signum) {
  int saved = errno;
  unsigned char byte = (unsigned char)signum;
  ssize_t n = write(signal_pipe[1], &byte, 1);
  (void)n;
  errno = saved;
}

int sp_signal_catch(int signum) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = tell;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  return sigaction(signum, &action, NULL);
}

static struct termios original;
static volatile sig_atomic_t raw_fd = -1;

void sp_terminal_restore(void) {
  int fd = raw_fd;
  if (fd < 0) return;
  raw_fd = -1;
  tcsetattr(fd, TCSADRAIN, &original);
}

static void crashed(int signum) {
  // Nobody can wait for output to drain here.
  int fd = raw_fd;
  if (fd >= 0) tcsetattr(fd, TCSANOW, &original);
  raise(signum);  // The handler is gone by now (SA_RESETHAND): this ends the process as it would have.
}

int sp_terminal_raw(int fd) {
  static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGQUIT};
  struct termios settings;
  if (raw_fd < 0 && tcgetattr(fd, &original) != 0) return -1;
  settings = original;
  cfmakeraw(&settings);
  for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = crashed;
    action.sa_flags = SA_RESETHAND | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(fatal[i], &action, NULL);
  }
  raw_fd = fd;
  return tcsetattr(fd, TCSANOW, &settings);
}
