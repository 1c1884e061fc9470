// The C that Swift can't import: variadic calls, function-like macros and GNU-only calls.
// Nothing here decides anything; every function is one call or one macro.
#ifndef CSALLYPORT_H
#define CSALLYPORT_H

#include <curl/curl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/types.h>
#include <termios.h>

// libcurl: curl_easy_setopt & co are variadic.
static inline CURLcode sp_curl_set_long(CURL *h, CURLoption o, long v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode sp_curl_set_off(CURL *h, CURLoption o, curl_off_t v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode sp_curl_set_string(CURL *h, CURLoption o, const char *v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode sp_curl_set_pointer(CURL *h, CURLoption o, void *v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode sp_curl_set_slist(CURL *h, CURLoption o, struct curl_slist *v) { return curl_easy_setopt(h, o, v); }
static inline CURLcode sp_curl_set_write(CURL *h, CURLoption o, size_t (*f)(char *, size_t, size_t, void *)) { return curl_easy_setopt(h, o, f); }
static inline CURLcode sp_curl_set_progress(CURL *h, CURLoption o, int (*f)(void *, curl_off_t, curl_off_t, curl_off_t, curl_off_t)) { return curl_easy_setopt(h, o, f); }
static inline CURLcode sp_curl_set_ssl_ctx(CURL *h, CURLoption o, CURLcode (*f)(CURL *, void *, void *)) { return curl_easy_setopt(h, o, f); }
static inline CURLcode sp_curl_set_sockopt(CURL *h, CURLoption o, int (*f)(void *, curl_socket_t, curlsocktype)) { return curl_easy_setopt(h, o, f); }
static inline CURLcode sp_curl_set_prereq(CURL *h, CURLoption o, int (*f)(void *, char *, char *, int, int)) { return curl_easy_setopt(h, o, f); }
static inline CURLcode sp_curl_get_long(CURL *h, CURLINFO i, long *v) { return curl_easy_getinfo(h, i, v); }
static inline CURLcode sp_curl_get_off(CURL *h, CURLINFO i, curl_off_t *v) { return curl_easy_getinfo(h, i, v); }
static inline CURLcode sp_curl_get_string(CURL *h, CURLINFO i, char **v) { return curl_easy_getinfo(h, i, v); }
static inline CURLcode sp_curl_get_pointer(CURL *h, CURLINFO i, void **v) { return curl_easy_getinfo(h, i, v); }
static inline CURLMcode sp_curl_multi_set_long(CURLM *h, CURLMoption o, long v) { return curl_multi_setopt(h, o, v); }
static inline CURLSHcode sp_curl_share_set_long(CURLSH *h, CURLSHoption o, long v) { return curl_share_setopt(h, o, v); }

// OpenSSL: these are macros.
static inline void sp_ssl_ctx_modes(SSL_CTX *c) {
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
}
static inline int sp_ssl_ctx_min_tls12(SSL_CTX *c) { return (int)SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION); }
static inline int sp_ssl_set_sni(SSL *s, const char *name) { return (int)SSL_set_tlsext_host_name(s, name); }
static inline void sp_ssl_ctx_ignore_eof(SSL_CTX *c) { SSL_CTX_set_options(c, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION); }
static inline void sp_ssl_ctx_session_cache(SSL_CTX *c, int on) { SSL_CTX_set_session_cache_mode(c, on ? SSL_SESS_CACHE_BOTH : SSL_SESS_CACHE_OFF); }
static inline X509 *sp_x509_of_store_ctx(X509_STORE_CTX *c) { return X509_STORE_CTX_get0_cert(c); }
/// To be called before anything else of OpenSSL's: it isn't taken down when the process exits, because a thread that
/// still makes a key (a simulator's start does) would use what is gone.
static inline int sp_openssl_outlives_exit(void) { return OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL); }
// TLS 1.2 is the least for viewers too; SSL_OP_* are shifted by a macro.
#define SP_OLD_TLS (SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1)
static const long SP_SSL_OP_NO_OLD_TLS = (long)SP_OLD_TLS;
static inline unsigned int sp_ssl_verify_none(void) { return SSL_VERIFY_NONE; }
static inline unsigned int sp_ssl_verify_peer(void) { return SSL_VERIFY_PEER; }

// GNU and XOPEN calls that Swift's Glibc module lacks.

/// Opens a pseudo terminal pair, both ends close-on-exec, the master non-blocking. 0, or -1 with errno.
int sp_open_pty(int *master, int *slave, unsigned short columns, unsigned short rows);
/// Sets a terminal's size. 0, or -1 with errno.
int sp_set_window_size(int fd, unsigned short columns, unsigned short rows);
/// Reads a terminal's size. 0, or -1 with errno.
int sp_get_window_size(int fd, unsigned short *columns, unsigned short *rows);
/// accept4 with SOCK_NONBLOCK | SOCK_CLOEXEC.
int sp_accept(int fd);
/// The first byte that waits in a socket, which stays there; -1 where none has come yet, -2 at the end or on an error.
int sp_peek(int fd);
/// The first place of some bytes in others (memmem), or NULL.
const void *sp_find(const void *bytes, size_t count, const void *wanted, size_t wanted_count);
/// A stream socket with SOCK_NONBLOCK | SOCK_CLOEXEC.
int sp_stream_socket(int family);
/// SOCK_STREAM. Which C module owns the name depends on what was compiled first, so it is asked for here.
int sp_stream_type(void);
/// TCP_NODELAY; without effect on anything but TCP.
void sp_no_delay(int fd);
/// IPV6_V6ONLY.
void sp_v6_only(int fd);
/// A monotonic timerfd, non-blocking and close-on-exec.
int sp_timer_create(void);
/// Arms it once, `nanoseconds` from now (at least 1); 0 disarms.
int sp_timer_arm(int fd, uint64_t nanoseconds);
/// Lets malloc map allocations of this size and more on their own, instead of growing its heap.
void sp_map_allocations_from(int bytes);
/// Names the calling thread (15 characters at most), for top and gdb.
void sp_name_thread(const char *name);
/// Wait-status macros.
int sp_exit_status(int wait_status);
int sp_term_signal(int wait_status);

// Child processes and rooms (rooms.c).

/// A program to start.
struct sp_child {
  /// With a slash, or a name that is looked for in `search`.
  const char *path;
  /// Directories with colons between; NULL looks nowhere.
  const char *search;
  char *const *argv;
  char *const *envp;
  /// Where it starts; ignored where there is no such directory.
  const char *directory;
  /// Its standard streams. They stay open here.
  int in, out, err;
  /// Whether `in` is a terminal that becomes its controlling terminal, in a session of its own.
  int terminal;
  /// Whether it gets a session of its own.
  int session;
  /// Whether it is killed when the calling thread ends.
  int dies_with_us;
  /// The first process of the room that it runs in, or 0.
  pid_t room;
  /// Whether that room has a user namespace.
  int room_has_user;
  /// Whether it fails where `directory` can't be entered.
  int directory_must;
  /// Whether it becomes a user: `uid` and `gid`, with `group_count` further groups.
  int change_user;
  uid_t uid;
  gid_t gid;
  const gid_t *groups;
  size_t group_count;
};
/// Starts a program with default signals and no other descriptors. It is the caller's child, in a room too.
/// Returns its pid; -1 with errno where it could not become the program.
pid_t sp_spawn(const struct sp_child *child);
/// The same, and where it failed: 1 its streams, 2 the program, 5 the user, 6 the directory; 0 before that.
pid_t sp_spawn_step(const struct sp_child *child, int *step);
/// A descriptor that becomes readable when a child ends. -1 with errno (ENOSYS before Linux 5.3).
int sp_pidfd(pid_t pid);
/// Whether a child has ended, and how; it stays a zombie until it is waited for, so that its number, and its group's,
/// belong to nobody else. 1 and its exit status or its signal; 0 while it runs; -1 with errno.
int sp_child_ended(pid_t pid, int *status, int *signal);
/// The bytes that can be read from a pipe or a terminal; 0 where that can't be told.
int sp_readable(int fd);
/// The groups of a user: fills up to `count`, and returns how many there are; -1 where there would be more.
int sp_groups(const char *user, gid_t gid, gid_t *groups, int count);

/// Starts a program with a terminal as its controlling terminal and all three standard streams. The parent keeps
/// `slave`. Returns the pid, or -1 with errno.
pid_t sp_spawn_on_pty(int slave, const char *path, char *const argv[], char *const envp[], const char *cwd);

/// A mount of a room, in the order in which they are made; a NULL target ends the list.
struct sp_mount {
  const char *source;
  /// Below the room's root, as a path of this machine.
  const char *target;
  const char *type;
  unsigned long flags;
  const char *data;
  /// Whether the room can do without.
  int optional;
};

/// Namespaces of their own (mount, pid, uts, ipc, net), with a root.
struct sp_room {
  const char *root;
  const char *host_name;
  const struct sp_mount *mounts;
  /// Whether a user namespace comes with it, in which the caller is root.
  int user;
  /// The first process.
  const char *path;
  char *const *argv;
  char *const *envp;
  int in, out;
};
/// Makes a room and returns its first process, which dies with the calling thread. -1 with errno, and in `step` where
/// it failed: 100 and more is a mount's number.
pid_t sp_room_start(const struct sp_room *room, int *step);
/// Like sp_open_pty, with the terminals of a room.
int sp_open_pty_in(pid_t room, int *master, int *slave, unsigned short columns, unsigned short rows);
/// Opens a path as a process in a room would. -1 with errno.
int sp_open_in(pid_t room, const char *path, int flags, unsigned mode);
/// A pipe whose ends are close-on-exec. 0, or -1 with errno.
int sp_pipe(int *reading, int *writing);
/// A file in memory with a text, at its start. -1 with errno.
int sp_memory_file(const char *name, const char *text);
/// Removes a folder with everything in it, never beyond its file system.
void sp_remove_tree(const char *path);

// Signals and the local terminal (terminal.c).

/// The reading end of the pipe through which caught signals arrive, one byte each: its number. -1 with errno.
int sp_signals_open(void);
/// From now on this signal is a byte of that pipe. 0, or -1 with errno.
int sp_signal_catch(int signum);
/// Makes a terminal raw and remembers its settings; they come back even when the process crashes. May be called
/// again after the process was stopped. 0, or -1 with errno.
int sp_terminal_raw(int fd);
/// Gives the terminal its settings back. Does nothing the second time.
void sp_terminal_restore(void);

#endif
