import ConsoleProtocol

/// What runs a command at the other end of a pipe: a line for `sh` that says when it is there, reads what to run from its
/// standard input, and afterwards tells how that ended. What is secret, argv and environment, is never in the arguments
/// of a process, only in that input; and its first byte is sent after the line has said that it is there, so that
/// before that nothing can have run.
///
/// The records (``MarkScanner``):
/// - `READY:p;` or `READY:s;` on both streams: Perl, or a shell, wants its payload. What came before is noise of logins.
/// - `KEY:B pid group start;` it runs. The wrapper's process and its start time, and the command's process group.
/// - `KEY:F what errno;` it could not be started: `u` no such user, `p` not allowed to be that user, `d` the
///   directory, `x` the program, `f` no process.
/// - `KEY:E;` on standard output: nothing of the command comes any more.
/// - `KEY:X status;` or `KEY:S signal;` how it ended.
///
/// On a terminal everything is in the one stream there is, without `E`.
///
/// Perl is on every Proxmox VE node (it is written in it) and in most containers. It gives the exact wait status. A
/// shell alone, e.g. Alpine's, says 128 + n for a signal n, which is then what is told: an exit status.
enum RunnerText {
  /// The line's arguments from the program on.
  static func words(ready: String, terminal: Bool) -> [[UInt8]] {
    ["sh", "-c", bootstrap, ready, perl, terminal ? "t" : "p"].map { Array($0.utf8) }
  }

  private static let bootstrap = #"""
    _ss= _sm=$2
    if [ $_sm = t ]; then _ss=$(stty -g) && stty raw -echo || exit 120; fi
    if command -v perl >/dev/null 2>&1; then exec perl -e "$1" "$0" "$_sm" "$_ss"; fi
    printf "%s:s;" "$0"
    [ $_sm = t ] || printf "%s:s;" "$0" >&2
    _sn=$(dd bs=1 count=8 2>/dev/null)
    [ ${#_sn} = 8 ] || exit 121
    eval "$(dd bs=1 count=$((_sn - 10000000)) 2>/dev/null)"
    exit 122
    """#

  /// Reads the payload of ``RunnerPayload/perl(_:)``.
  private static let perl = #"""
    my ($ready, $m, $tty) = @ARGV;
    my $c = $m eq "p" ? *STDERR : *STDOUT;
    sub put {
      my ($f, $t) = @_;
      while (length $t) {
        my $n = syswrite $f, $t;
        if (defined $n) { substr($t, 0, $n) = ""; next }
        if ($! == 11) { select undef, undef, undef, 0.02; next }
        last unless $! == 4;
      }
    }
    sub get {
      my $b = "";
      while (length $b < $_[0]) { sysread STDIN, $b, $_[0] - length $b, length $b or exit 121 }
      $b;
    }
    put(*STDOUT, "$ready:p;");
    put(*STDERR, "$ready:p;") if $m eq "p";
    my ($k, $dir, $user, $count, @argv) = unpack "(N/a*)*", get(unpack "N", get(4));
    my @env = splice @argv, 0, $count;
    system "stty", $tty if $m eq "t";
    my ($seen, $told);
    pipe $seen, $told;
    my $pid = fork;
    if (!defined $pid) { put($c, "$k:F f " . ($! + 0) . ";"); exit 1 }
    if (!$pid) {
      my $bad = sub { syswrite $told, "$_[0] " . ($! + 0); kill 9, $$ };
      close $seen;
      setpgrp 0, 0 if $m eq "p";
      $SIG{$_} = "DEFAULT" for qw(HUP INT QUIT PIPE TERM CHLD);
      if (length $user) {
        my ($name, undef, $uid, $gid, undef, undef, undef, $home, $shell) = getpwnam $user;
        $bad->("u") unless defined $name;
        if ($uid != $< || $uid != $>) {
          my %groups = ($gid => 1);
          while (my @g = getgrent) { $groups{$g[2]} = 1 if grep { $_ eq $user } split / /, $g[3] }
          $( = $gid;
          $) = join " ", $gid, keys %groups;
          ($<, $>) = ($uid, $uid);
          if ($< != $uid || $> != $uid) { $! = 1; $bad->("p") }
        }
        @ENV{qw(HOME USER LOGNAME SHELL)} = ($home, $user, $user, $shell || "/bin/sh");
        chdir $home or chdir "/" unless length $dir;
      }
      for (@env) { my ($n, $v) = split /=/, $_, 2; $ENV{$n} = $v }
      chdir $dir or $bad->("d") if length $dir;
      no warnings;
      exec { $argv[0] } @argv;
      $bad->("x");
    }
    my $ending;
    $SIG{$_} = sub { } for qw(HUP INT QUIT PIPE TERM TSTP TTIN TTOU);
    $SIG{USR1} = sub { $ending = 1 };
    close $told;
    open STDIN, "<", "/dev/null" if $m eq "p";
    my $bad = "";
    while (1) {
      my $n = sysread $seen, $bad, 64, length $bad;
      last if defined $n ? !$n : $! != 4;
    }
    my $start = "";
    if (open my $h, "<", "/proc/$$/stat") {
      my $l = <$h>;
      $l =~ s/.*\)//s;
      $start = (split " ", $l)[19];
    }
    put($c, "$k:B $$ " . ($m eq "p" ? $pid : getpgrp) . " $start;") unless length $bad;
    1 while waitpid($pid, 0) == -1 && $! == 4;
    my $w = $?;
    kill 9, -$pid if $ending && $m eq "p";
    if (length $bad) { put($c, "$k:F $bad;"); exit 1 }
    put(*STDOUT, "$k:E;") if $m eq "p";
    put($c, $w & 127 ? "$k:S " . ($w & 127) . ";" : "$k:X " . ($w >> 8) . ";");
    """#

  /// What a shell evaluates behind the variables of ``RunnerPayload/shell(_:key:)``: `_sk` the key, `_su` the user,
  /// `_sd` the directory, `"$@"` the argv. Its names begin with `_s`, lest they meet those of the environment.
  static let shell = #"""
    _s_tell() { if [ $_sm = t ]; then printf %s "$1"; else printf %s "$1" >&2; fi; }
    _s_bad() { _s_tell "$_sk:F $1;"; exit 1; }
    [ $_sm = p ] || stty "$_ss"
    if [ -n "$_sd" ]; then
      cd -- "$_sd" 2>/dev/null || { [ ! -d "$_sd" ] || _s_bad "d 13"; _s_bad "d 2"; }
    fi
    case $1 in
      */*) [ -e "$1" ] || _s_bad "x 2"; [ -x "$1" ] || _s_bad "x 13" ;;
      *) command -v -- "$1" >/dev/null 2>&1 || _s_bad "x 2" ;;
    esac
    if [ -n "$_s_env" ]; then eval "$_s_env"; fi
    if [ -n "$_su" ]; then
      id -u "$_su" >/dev/null 2>&1 || _s_bad "u 2"
      if [ "$(id -u)" != "$(id -u "$_su")" ]; then
        [ "$(id -u)" = 0 ] || _s_bad "p 1"
        _sh=$(sed -n "s/^$_su:[^:]*:[^:]*:[^:]*:[^:]*:\([^:]*\):.*/\1/p" /etc/passwd)
        [ -n "$_s_home" ] || export HOME="${_sh:-/}"
        export USER="$_su" LOGNAME="$_su"
        [ -n "$_sd" ] || cd "${_sh:-/}" 2>/dev/null || cd /
        _sg=$(id -g "$_su")
        if setpriv --init-groups --reuid="$_su" --regid="$_sg" true 2>/dev/null; then
          set -- setpriv --init-groups --reuid="$_su" --regid="$_sg" "$@"
        else
          set -- su -s /bin/sh "$_su" -c 'exec "$0" "$@"' "$@"
        fi
      fi
    fi
    _sq='_sk=$1 _sm=$2; shift 2; _sg= _st= _si=0; read -r _sz </proc/$$/stat; _sz=${_sz##*) }
    for _sw in $_sz; do
      _si=$((_si + 1)); [ $_si != 3 ] || _sg=$_sw; [ $_si != 20 ] || _st=$_sw
    done
    _sb="$_sk:B $$ $_sg $_st;"
    if [ $_sm = t ]; then printf %s "$_sb"; else printf %s "$_sb" >&2; fi
    exec "$@"'
    trap : HUP INT QUIT TERM TSTP
    if [ $_sm = p ] && command -v setsid >/dev/null 2>&1; then
      (exec setsid sh -c "$_sq" sh "$_sk" $_sm "$@")
    else
      (exec sh -c "$_sq" sh "$_sk" $_sm "$@")
    fi
    _sx=$?
    trap "" PIPE
    [ $_sm = t ] || printf %s "$_sk:E;"
    _s_tell "$_sk:X $_sx;"
    exit 0
    """#

  /// Sends a signal to a command's group, if its process is still the one that was told.
  /// - Parameter ending: tells Perl's wrapper before that nothing of the group may outlive the command.
  static func signalWords(
    _ number: Int, process: RunnerProcessID, ending: Bool = false
  ) -> [[UInt8]] {
    let text = #"""
      read -r z 2>/dev/null </proc/$1/stat || exit 3
      z=${z##*) } i=0
      for w in $z; do i=$((i + 1)); if [ $i = 20 ] && [ "$w" != "$3" ]; then exit 3; fi; done
      [ -z "$4" ] || kill -USR1 "$1" 2>/dev/null
      kill -"$0" -- -"$2" 2>/dev/null || kill -"$0" "$2" 2>/dev/null || exit 3
      """#
    return [
      "sh", "-c", text, "\(number)", "\(process.pid)", "\(process.group)", process.start,
      ending ? "e" : "",
    ].map { Array($0.utf8) }
  }
}

/// Where a command runs, as its machine or container numbers it.
struct RunnerProcessID: Sendable, Hashable {
  /// The process that waits for it, or itself.
  var pid: Int
  /// Its process group.
  var group: Int
  /// When ``pid`` began, in the kernel's ticks: it tells it from a later one of that number.
  var start: String

  /// Out of the record `B pid group start`.
  init?(record: String) {
    let words = record.split(separator: " ").map(String.init)
    guard words.count == 4, words[0] == "B", let pid = Int(words[1]), let group = Int(words[2]),
      pid > 1, group > 1, words[3].utf8.allSatisfy({ (48...57).contains($0) })
    else { return nil }
    self.pid = pid
    self.group = group
    start = words[3]
  }
}

/// What is sent to the line once it is there.
enum RunnerPayload {
  /// All parts with their lengths.
  static func perl(_ request: ExecRequest, key: String) -> [UInt8] {
    let variables = environment(of: request).map { $0.name + [UInt8(ascii: "=")] + $0.value }
    var fields: [[UInt8]] = [
      Array(key.utf8), request.directory ?? [], Array((request.user ?? "").utf8),
      Array("\(variables.count)".utf8),
    ]
    fields += variables
    fields += argv(of: request)
    let body = fields.flatMap { number($0.count) + $0 }
    return number(body.count) + body
  }

  /// A text with its length, 8 digits of which the first is always 1, in front.
  static func shell(_ request: ExecRequest, key: String) -> [UInt8] {
    // Set late, so that they are the command's and not the wrapper's.
    var exports: [UInt8] = []
    // What a shell can't export, `env` can.
    var others: [[UInt8]] = []
    var setsHome = false
    for variable in environment(of: request) {
      let assignment = variable.name + [UInt8(ascii: "=")] + variable.value
      if ShellQuoting.isVariableName(variable.name), !readOnly.contains(variable.name) {
        setsHome = setsHome || variable.name == Array("HOME".utf8)
        exports += Array("export ".utf8) + variable.name + [UInt8(ascii: "=")]
        exports += ShellQuoting.quoted(variable.value) + [10]
      } else {
        others.append(assignment)
      }
    }
    var text = Array(
      "_sk=\(key) _su=\(request.user ?? "") _s_home=\(setsHome ? "1" : "") _sd=".utf8)
    text += ShellQuoting.quoted(request.directory ?? [])
    text += Array(" _s_env=".utf8) + ShellQuoting.quoted(exports)
    let env = others.isEmpty ? [] : [Array("env".utf8), Array("--".utf8)] + others
    text += Array("\nset -- ".utf8) + ShellQuoting.line(env + argv(of: request)) + [10]
    text += Array(RunnerText.shell.utf8)
    return Array("\(10_000_000 + text.count)".utf8) + text
  }

  /// Names that bash doesn't let anybody set.
  private static let readOnly = Set(
    ["UID", "EUID", "PPID", "BASHOPTS", "SHELLOPTS", "BASH_VERSINFO"].map { Array($0.utf8) })

  /// The argv of a request; a text for the shell is one for `sh`.
  static func argv(of request: ExecRequest) -> [[UInt8]] {
    switch request.command {
    case .argv(let argv): argv
    case .shell(let text): [Array("/bin/sh".utf8), Array("-c".utf8), text]
    }
  }

  /// With the terminal's type, which a request may override.
  private static func environment(of request: ExecRequest) -> [ExecRequest.Variable] {
    guard request.terminal != nil else { return request.environment }
    let term = ExecRequest.Variable(name: Array("TERM".utf8), value: Array("xterm-256color".utf8))
    return [term] + request.environment
  }

  private static func number(_ n: Int) -> [UInt8] {
    [
      UInt8(truncatingIfNeeded: n >> 24), UInt8(truncatingIfNeeded: n >> 16),
      UInt8(truncatingIfNeeded: n >> 8), UInt8(truncatingIfNeeded: n),
    ]
  }
}
