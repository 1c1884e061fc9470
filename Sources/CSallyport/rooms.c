// Child processes: with pipes or a terminal, and in namespaces with a root of their own ("rooms"). After a fork only
// async-signal-safe calls are made, because the parent has other threads.
#define _GNU_SOURCE
#include "CSallyport.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// What a child tells its parent over a close-on-exec pipe before it becomes another program.
struct report {
  int is_pid;
  int value;  // a pid, or errno
  int step;
};

static void tell(int fd, int is_pid, int value, int step) {
  struct report r = {is_pid, value, step};
  ssize_t ignored = write(fd, &r, sizeof r);
  (void)ignored;
}

static void fail(int fd, int step) {
  tell(fd, 0, errno, step);
  _exit(127);
}

static int write_text(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t n = write(fd, text, strlen(text));
  int e = errno;
  close(fd);
  errno = e;
  return n < 0 ? -1 : 0;
}

static void default_signals(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = SIG_DFL;
  for (int i = 1; i < NSIG; i++) sigaction(i, &action, NULL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
}

// Libraries open descriptors without close-on-exec (libcurl's wake-up pipe, libwebsockets' events); in a child they
// would keep peers from ever seeing the end.
static void hide_descriptors(void) {
  if (syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */) == 0) return;
  for (int i = 3; i < 4096; i++) fcntl(i, F_SETFD, FD_CLOEXEC);
}

// What root of a room must not do to this machine: its clock, its modules, its devices, its power.
static void drop_capabilities(void) {
  static const int dropped[] = {CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_TIME, CAP_SYS_BOOT, CAP_MKNOD,
                                CAP_SYSLOG, CAP_MAC_ADMIN, CAP_MAC_OVERRIDE, CAP_WAKE_ALARM};
  for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; i++) prctl(PR_CAPBSET_DROP, dropped[i], 0, 0, 0);
}

// Descriptors may stand in each other's way (the wanted 1 may be our 0), so they are moved out of the way first.
static int wire(int in, int out, int err) {
  int a = fcntl(in, F_DUPFD_CLOEXEC, 10), b = fcntl(out, F_DUPFD_CLOEXEC, 10), c = fcntl(err, F_DUPFD_CLOEXEC, 10);
  if (a < 0 || b < 0 || c < 0) return -1;
  return dup2(a, 0) < 0 || dup2(b, 1) < 0 || dup2(c, 2) < 0 ? -1 : 0;
}

// Becomes the program. A name without a slash is looked for; a file that is no executable format is a script.
static void become(const struct sp_child *child) {
  static char buffer[4096];
  static char *script[1024];
  const char *name = child->path;
  int denied = 0;
  const char *rest = strchr(name, '/') != NULL || child->search == NULL ? NULL : child->search;
  for (;;) {
    const char *path = name;
    if (rest != NULL) {
      const char *end = strchrnul(rest, ':');
      size_t n = (size_t)(end - rest);
      if (n + strlen(name) + 2 > sizeof buffer) return;
      memcpy(buffer, rest, n);
      buffer[n] = '/';
      strcpy(buffer + n + 1, name);
      path = buffer;
      rest = *end == 0 ? NULL : end + 1;
    }
    execve(path, child->argv, child->envp);
    if (errno == ENOEXEC) {
      int n = 0;
      while (child->argv[n] != NULL && n < 1000) n++;
      script[0] = "/bin/sh";
      script[1] = (char *)path;
      for (int i = 1; i <= n; i++) script[i + 1] = child->argv[i];
      execve("/bin/sh", script, child->envp);
    }
    if (errno == EACCES) denied = 1;
    if (rest == NULL || (errno != ENOENT && errno != ENOTDIR && errno != EACCES)) break;
  }
  if (denied) errno = EACCES;
}

static void run(const struct sp_child *child, int report) {
  if (child->terminal) {
    setsid();
    ioctl(child->in, TIOCSCTTY, 0);
  } else if (child->session) {
    setsid();
  }
  if (wire(child->in, child->out, child->err) != 0) fail(report, 1);
  default_signals();
  if (child->room > 0) drop_capabilities();
  if (child->dies_with_us) prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (child->change_user) {
    // In this order: without its user's rights nothing of it could be changed any more.
    if (setgroups(child->group_count, child->groups) != 0 && geteuid() == 0) fail(report, 5);
    if (setgid(child->gid) != 0 || setuid(child->uid) != 0) fail(report, 5);
  }
  // As the user, who may not be let into every folder. Without directory_must it stays where it is.
  if (child->directory != NULL && chdir(child->directory) != 0 && child->directory_must) fail(report, 6);
  hide_descriptors();
  become(child);
  fail(report, 2);
}

// Joins the namespaces of a room's first process.
static int join(pid_t room, int user) {
  static const struct { const char *name; int flag; } spaces[] = {
    {"user", CLONE_NEWUSER}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS},
    {"net", CLONE_NEWNET}, {"pid", CLONE_NEWPID}, {"mnt", CLONE_NEWNS}};
  int fds[6];
  char path[64];
  for (int i = user ? 0 : 1; i < 6; i++) {
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)room, spaces[i].name);
    fds[i] = open(path, O_RDONLY | O_CLOEXEC);
    if (fds[i] < 0) return -1;
  }
  for (int i = user ? 0 : 1; i < 6; i++) {
    if (setns(fds[i], spaces[i].flag) != 0) return -1;
    close(fds[i]);
  }
  return 0;
}

// Reads what the child tells, until it has become a program or failed. Returns its pid, or -1 with errno.
static pid_t listen_to(int fd, pid_t pid, int *step) {
  struct report r;
  int error = 0;
  pid_t middle = -1;
  for (;;) {
    ssize_t n = read(fd, &r, sizeof r);
    if (n < 0 && errno == EINTR) continue;
    if (n != (ssize_t)sizeof r) break;
    if (r.is_pid) {
      middle = pid;
      pid = (pid_t)r.value;
    } else {
      error = r.value;
      if (step != NULL) *step = r.step;
    }
  }
  close(fd);
  if (middle > 0) while (waitpid(middle, NULL, 0) < 0 && errno == EINTR) {}
  if (error == 0) return pid;
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
  errno = error;
  return -1;
}

pid_t sp_spawn(const struct sp_child *child) { return sp_spawn_step(child, NULL); }

pid_t sp_spawn_step(const struct sp_child *child, int *step) {
  if (step != NULL) *step = 0;
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return -1;
  pid_t pid = fork();
  if (pid < 0) {
    int e = errno;
    close(report[0]);
    close(report[1]);
    errno = e;
    return -1;
  }
  if (pid == 0) {
    if (child->room > 0) {
      if (join(child->room, child->room_has_user) != 0) fail(report[1], 3);
      // A pid namespace is entered by children only; this one becomes our parent's child, not ours.
      long inner = syscall(SYS_clone, (unsigned long)(CLONE_PARENT | SIGCHLD), 0UL, 0UL, 0UL, 0UL);
      if (inner < 0) fail(report[1], 4);
      if (inner > 0) {
        tell(report[1], 1, (int)inner, 0);
        _exit(0);
      }
    }
    run(child, report[1]);
  }
  close(report[1]);
  return listen_to(report[0], pid, step);
}

int sp_pidfd(pid_t pid) {
  // Close-on-exec by itself.
  return (int)syscall(SYS_pidfd_open, pid, 0U);
}

int sp_child_ended(pid_t pid, int *status, int *signal) {
  siginfo_t info;
  memset(&info, 0, sizeof info);
  *status = *signal = 0;
  while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0) if (errno != EINTR) return -1;
  if (info.si_pid == 0) return 0;
  if (info.si_code == CLD_EXITED) *status = info.si_status;
  else *signal = info.si_status;
  return 1;
}

int sp_readable(int fd) {
  int n = 0;
  return ioctl(fd, FIONREAD, &n) == 0 ? n : 0;
}

int sp_groups(const char *user, gid_t gid, gid_t *groups, int count) {
  return getgrouplist(user, gid, groups, &count) < 0 ? -1 : count;
}

// A read-only bind mount takes a second call; inside a user namespace the flags that the original has are locked.
static int mount_one(const struct sp_mount *m) {
  if (!(m->flags & MS_BIND)) return mount(m->source, m->target, m->type, m->flags, m->data);
  if (mount(m->source, m->target, m->type, m->flags & ~(unsigned long)MS_RDONLY, m->data) != 0) return -1;
  if (!(m->flags & MS_RDONLY)) return 0;
  struct statfs s;
  unsigned long kept = 0;
  if (statfs(m->target, &s) == 0) kept = (unsigned long)s.f_flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME);
  return mount(NULL, m->target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | kept, NULL);
}

static void raise_loopback(void) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  struct ifreq request;
  memset(&request, 0, sizeof request);
  strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  ioctl(fd, SIOCSIFFLAGS, &request);
  close(fd);
}

static void settle(const struct sp_room *room, int report, const char *uid_map, const char *gid_map) {
  if (room->user) {
    write_text("/proc/self/setgroups", "deny");
    if (write_text("/proc/self/uid_map", uid_map) != 0) fail(report, 10);
    if (write_text("/proc/self/gid_map", gid_map) != 0) fail(report, 11);
  }
  // Nothing of a room outlives the one who made it, not even when that one is killed.
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  setsid();
  if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail(report, 12);
  if (mount(room->root, room->root, NULL, MS_BIND, NULL) != 0) fail(report, 13);
  for (const struct sp_mount *m = room->mounts; m->target != NULL; m++) {
    if (mount_one(m) != 0 && !m->optional) fail(report, 100 + (int)(m - room->mounts));
  }
  if (chdir(room->root) != 0 || syscall(SYS_pivot_root, ".", ".") != 0) fail(report, 14);
  if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) fail(report, 15);
  if (sethostname(room->host_name, strlen(room->host_name)) != 0) fail(report, 16);
  raise_loopback();
  drop_capabilities();
  if (wire(room->in, room->out, room->out) != 0) fail(report, 17);
  default_signals();
  hide_descriptors();
  execve(room->path, room->argv, room->envp);
  fail(report, 18);
}

pid_t sp_room_start(const struct sp_room *room, int *step) {
  char uid_map[64], gid_map[64];
  snprintf(uid_map, sizeof uid_map, "0 %u 1", (unsigned)geteuid());
  snprintf(gid_map, sizeof gid_map, "0 %u 1", (unsigned)getegid());
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return -1;
  unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | SIGCHLD;
  if (room->user) flags |= CLONE_NEWUSER;
  long pid = syscall(SYS_clone, flags, 0UL, 0UL, 0UL, 0UL);
  if (pid < 0) {
    int e = errno;
    close(report[0]);
    close(report[1]);
    errno = e;
    return -1;
  }
  if (pid == 0) settle(room, report[1], uid_map, gid_map);
  close(report[1]);
  return listen_to(report[0], (pid_t)pid, step);
}

int sp_open_pty_in(pid_t room, int *master, int *slave, unsigned short columns, unsigned short rows) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/root/dev/pts/ptmx", (int)room);
  int m = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (m < 0) return -1;
  int unlocked = 0;
  int s = -1;
  if (ioctl(m, TIOCSPTLCK, &unlocked) == 0) s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
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

int sp_open_in(pid_t room, const char *path, int flags, unsigned mode) {
  char place[64];
  snprintf(place, sizeof place, "/proc/%d/root", (int)room);
  int root = open(place, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return -1;
  struct open_how how;
  memset(&how, 0, sizeof how);
  how.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOCTTY);
  how.mode = flags & O_CREAT ? mode : 0;
  how.resolve = RESOLVE_IN_ROOT;
  int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
  int e = errno;
  close(root);
  errno = e;
  return fd;
}

int sp_pipe(int *reading, int *writing) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return -1;
  *reading = fds[0];
  *writing = fds[1];
  return 0;
}

int sp_memory_file(const char *name, const char *text) {
  int fd = memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) return -1;
  size_t n = strlen(text);
  if (write(fd, text, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) != 0) {
    close(fd);
    return -1;
  }
  return fd;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *f) {
  (void)s;
  (void)f;
  if (kind == FTW_DP || kind == FTW_D || kind == FTW_DNR) rmdir(path);
  else unlink(path);
  return 0;
}

void sp_remove_tree(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT); }


pid_t sp_spawn_on_pty(int slave, const char *path, char *const argv[], char *const envp[], const char *cwd) {
  struct sp_child child;
  memset(&child, 0, sizeof child);
  child.path = path;
  child.search = getenv("PATH");
  child.argv = argv;
  child.envp = envp;
  child.directory = cwd;
  child.in = child.out = child.err = slave;
  child.terminal = 1;
  return sp_spawn(&child);
}
