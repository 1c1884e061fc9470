/// The shell texts that run in a guest in streaming mode: POSIX sh (dash, bash and busybox were tried), plain ASCII.
///
/// A command's folder, mode 0700 and with a random name, holds:
///
/// | file | |
/// |---|---|
/// | `h` | the runner's pid and the kernel's boot id |
/// | `o`, `e`, `i` | named pipes: the command's streams |
/// | `o.N`, `e.N` | output from byte N − 10^15 on, at most 4 MiB a file; five files at most wait to be read, then the command waits |
/// | `o-`, `e-`, `o!`, `e!` | the stream has ended; its files could not be written |
/// | `c.N.LEN`, `c.N.end`, `n` | input from byte N on, its end; how much the command was given |
/// | `p`, `g`, `w` | the command's process group; signals that were sent; why it was told to end |
/// | `s`, `r`, `k` | how it ended; why it was not run; a terminal's status |
/// | `t`, `y` | with a terminal: its shell text and its name |
/// | `x`, `z` | everything was read: the folder can go; it can go after a minute |
///
/// Numbers begin at 10^15, so that names sort and no shell takes them for octal.
enum AgentScripts {
  /// Where output and input begin in file names.
  static let base = 1_000_000_000_000_000

  /// The runner's functions; `run` is called behind them, with `name`, `mark`, `input`, `limit`, `grace` and
  /// `keep_for` set and `launch_it` defined. The end of a stream is `mark`, which the runner writes into the pipe itself
  /// behind the command's last byte: a child in the background may hold the pipe open as long as it likes.
  ///
  /// A shell tells a signal from an exit code above 128 by what it says of it on standard error (file `m`); of INT and
  /// PIPE it says nothing, so these count as signals only where they were sent from here.
  static let runner = #"""
    keep() {
      x=$1 p=1000000000000000
      while :; do
        set -- "$d/$x".*
        while [ $# -gt 4 ]; do nap 0.1; set -- "$d/$x".*; done
        f=$d/$x.$p
        r=$(LC_ALL=C dd bs=4096 count=1024 of="$f" 2>&1) || break
        r=${r%% records in*}
        r=${r##*[!0-9+]}
        if [ $((${r%+*} + ${r#*+})) -lt 1024 ]; then true >"$d/$x-"; exit; fi
        s=$(wc -c <"$f") || break
        p=$((p + s))
      done
      [ ! -d "$d" ] || true >"$d/$x!"
      exec cat >/dev/null
    }
    nap() { sleep "$1" 2>/dev/null || sleep 1; }
    feed() {
      exec 7>"$d/i"
      p=1000000000000000 k=0
      while [ -d "$d" ] && [ ! -e "$d/s" ]; do
        set -- "$d/c.$p".*
        if [ -e "$1" ]; then
          l=${1##*.}
          [ "$l" != end ] || break
          if [ "$(wc -c <"$1")" -eq "$l" ]; then
            mv "$1" "$d/c" && cat "$d/c" >&7 || break
            p=$((p + l)) k=0
            echo "$p" >"$d/n"
            continue
          fi
        fi
        k=$((k + 1))
        if [ $k -lt 50 ]; then nap 0.02; elif [ $k -lt 100 ]; then nap 0.1; else nap 0.25; fi
      done
    }
    stop() {
      [ -e "$d/w" ] || echo limit >"$d/w"
      read -r g <"$d/p" || return
      kill -15 "-$g" || kill -15 "$g"
      nap "$grace"
      kill -9 "-$g" || [ -e "$d/s" ] || kill -9 "$g"
    }
    tidy() {
      t=0 q=0
      while [ -d "$d" ]; do
        if [ -e "$d/x" ] || [ $q -ge "$keep_for" ]; then rm -rf "$d"; exit; fi
        sleep 1
        if [ -e "$d/s" ]; then q=$((q + 1)); fi
        if [ -e "$d/z" ] && [ "$keep_for" -gt 60 ]; then keep_for=60; fi
        t=$((t + 1))
        if [ "$limit" -gt 0 ] && [ $t -eq $((limit + 3)) ] && [ ! -e "$d/s" ]; then stop; fi
      done
    }
    run() {
      mask=$(umask)
      umask 077
      d=
      for b in /run /var/tmp /tmp; do
        if mkdir "$b/$name" 2>/dev/null; then d=$b/$name; break; fi
      done
      if [ -z "$d" ]; then echo nofolder; exit; fi
      sallyport_d=$d
      boot=-
      read -r boot 2>/dev/null </proc/sys/kernel/random/boot_id
      echo "$$ $boot" >"$d/h"
      exec 8>&2 2>"$d/m"
      mkfifo "$d/o" "$d/e"
      ( keep o ) <"$d/o" >/dev/null 2>&1 8>&- &
      ( keep e ) <"$d/e" >/dev/null 2>&1 8>&- &
      in=/dev/null
      if [ "$input" = 1 ]; then
        in=$d/i
        mkfifo "$in"
        ( feed ) </dev/null >/dev/null 2>&1 8>&- &
      fi
      ( tidy ) </dev/null >/dev/null 2>&1 8>&- &
      exec 5>"$d/o" 6>"$d/e"
      true >"$d/m"
      ( launch_it ) <"$in" >&5 2>&6 5>&- 6>&- 8>&-
      rc=$?
      if [ -e "$d/k" ]; then read -r rc <"$d/k"; fi
      if [ -e "$d/r" ]; then
        read -r how <"$d/r"
        how="no $how"
      elif [ "$rc" -gt 128 ] && { [ -s "$d/m" ] || grep -qx $((rc - 128)) "$d/g" 2>/dev/null; }; then
        how="signal $((rc - 128))"
      else
        how="exit $rc"
      fi
      why=-
      if [ -e "$d/w" ]; then read -r why <"$d/w"; fi
      echo "$why $how" >"$d/s"
      printf %s "$mark" >&5
      printf %s "$mark" >&6
      exec 5>&- 6>&-
      k=0
      while [ ! -e "$d/o-" ] || [ ! -e "$d/e-" ]; do
        k=$((k + 1))
        if [ $k -gt 25 ]; then echo "sallyport $d 0"; exit 0; fi
        nap 0.01
      done
      o=$d/o.1000000000000000 e=$d/e.1000000000000000
      if [ -e "$o" ] && [ -e "$e" ]; then set -- $(wc -c "$o" "$e"); else set -- 99999 - 0; fi
      if [ "$(($1 + $3))" -gt 65536 ] || [ -e "$d/o.$((1000000000000000 + $1))" ] ||
        [ -e "$d/e.$((1000000000000000 + $3))" ]; then
        echo "sallyport $d 0"
      else
        true >"$d/z"
        echo "sallyport $d 1 $why $how"
        cat "$o"
        cat "$e" >&8
      fi
    }
    launch() {
      if command -v setsid >/dev/null 2>&1; then
        exec setsid /bin/sh -c 'echo $$ >"$1"; shift; exec "$@"' sh "$sallyport_d/p" "$@"
      fi
      exec /bin/sh -c 'echo $$ >"$1"; shift; exec "$@"' sh "$sallyport_d/p" "$@"
    }
    refuse() { echo "$1" >"$sallyport_d/r"; exit 125; }

    """#

  /// What there is to read: `sh NAME OUT KEPT-OUT ERR KEPT-ERR MOST UPLOADED`. Files whose bytes are all kept are deleted.
  /// How much input is there already is looked up where UPLOADED is 1. The first line is ``AgentPoll``, then the bytes
  /// follow on both streams. Sizes come from `ls`: some `wc` read the whole file.
  static let poll = #"""
    d=
    for b in /run /var/tmp /tmp; do if [ -d "$b/$1" ]; then d=$b/$1; fi; done
    if [ -z "$d" ]; then echo none; exit; fi
    state() {
      s=
      if [ -e "$d/s" ] && read -r s <"$d/s"; then s="end $s"; return; fi
      h= boot= now=
      read -r h boot 2>/dev/null <"$d/h"
      read -r now 2>/dev/null </proc/sys/kernel/random/boot_id
      if [ -n "$now" ] && [ -n "$boot" ] && [ "$now" != "$boot" ]; then s=rebooted
      elif [ -z "$h" ] || kill -0 "$h" 2>/dev/null; then s=runs
      else s=dead; fi
    }
    state
    if [ "$s" = dead ]; then state; fi
    look() {
      f= n=0 k=0 last= all=0 at=$2
      while read -r x x x x z x x x g; do
        if [ ! -n "$g" ]; then continue; fi
        if [ -n "$last" ] && [ "${g##*.}" -le "$3" ]; then rm -f "$last"; fi
        last=$g
        all=$((z + ${g##*.}))
        if [ $n -eq 0 ] && [ "$at" -lt "${g##*.}" ]; then at=${g##*.}; fi
        if [ $n -eq 0 ] && [ "$at" -lt "$all" ]; then
          f=$g k=$((at - ${g##*.} + 1)) n=$((all - at))
          if [ $n -gt "$4" ]; then n=$4; fi
        fi
      done <<END
    $(LC_ALL=C ls -ln "$d/$1".* 2>/dev/null)
    END
    }
    give() { if [ $n -gt 0 ]; then tail -c "+$k" "$f" | head -c "$n"; fi; }
    c=1000000000000000 k=0
    while [ -e "$d/n" ] && [ $k -lt 20 ]; do
      c=
      read -r c <"$d/n"
      if [ -n "$c" ]; then break; fi
      k=$((k + 1)) c=1000000000000000
    done
    u=$c
    while [ "$7" = 1 ]; do
      for g in "$d/c.$u".*; do break; done
      if [ ! -e "$g" ] || [ "${g##*.}" = end ]; then break; fi
      u=$((u + ${g##*.}))
    done
    look e "$4" "$5" "$6"
    fe=$f ke=$k ne=$n te=$at
    look o "$2" "$3" "$6"
    bo=0 be=0
    if [ -e "$d/o!" ]; then bo=1; fi
    if [ -e "$d/e!" ]; then be=1; fi
    eo=0
    if [ -e "$d/o-" ] && [ -e "$d/e-" ]; then eo=1; fi
    echo "sallyport $d $n $ne $at $te $c $u $bo $be $eo $s"
    give
    f=$fe k=$ke n=$ne
    give >&2

    """#

  /// Sends a signal to the command's group: `sh NAME SIGNAL WHY GRACE`; KILL follows after GRACE seconds unless it is 0.
  static let kill = #"""
    d=
    for b in /run /var/tmp /tmp; do if [ -d "$b/$1" ]; then d=$b/$1; fi; done
    if [ -z "$d" ] || [ -e "$d/s" ]; then echo over; exit; fi
    if [ "$3" != - ] && [ ! -e "$d/w" ]; then echo "$3" >"$d/w"; fi
    k=0
    while [ ! -s "$d/p" ] && [ $k -lt 20 ]; do k=$((k + 1)); sleep 0.05 2>/dev/null || sleep 1; done
    read -r g <"$d/p" || { echo early; exit; }
    echo "$2" >>"$d/g"
    hit() { kill "-$1" "-$g" 2>/dev/null || kill "-$1" "$g" 2>/dev/null; }
    hit "$2"
    if [ "$4" != 0 ]; then
      { k=0
        while [ $k -lt "$4" ] && [ -d "$d" ] && [ ! -e "$d/s" ]; do k=$((k + 1)); sleep 1; done
        if [ -d "$d" ] && [ ! -e "$d/s" ]; then hit 9; else kill -9 "-$g"; fi
      } </dev/null >/dev/null 2>&1 &
    fi
    echo sent

    """#
}
