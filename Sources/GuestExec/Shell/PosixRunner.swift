/// The same without Perl, for what has a POSIX shell, `mkfifo`, `dd` and `base64`: busybox is enough. Output comes in
/// base64, a command's end is what a shell makes of it (a signal `n` is 128 + `n`), the end waits until both streams
/// are closed, and a command with a terminal gets this one.
///
/// Its fifos have names for as long as it takes to open them. Pumps and answers take turns at the terminal by a fifo
/// that holds one line (descriptor 4); pumps take a line of another (5) for every frame, which we give back.
enum PosixRunner {
  /// How many frames of output it is ahead of us at most.
  static let window = 12
  /// The most input that it holds: less than a pipe does, so that it never waits for the command.
  static let inputWindow = 48 << 10
  /// The most input in one message.
  static let inputPiece = 24 << 10

  /// The script.
  /// - Parameters:
  ///   - magic: as `printf` takes it, in octal.
  ///   - graceMilliseconds: between TERM and KILL.
  ///   - alone: after how many seconds without a word the caller is taken for gone; 0 for never.
  static func script(magic: String, graceMilliseconds: Int, alone: Int) -> [UInt8] {
    var out: [UInt8] = []
    for line in source.split(separator: "\n") {
      let bare = line.drop { $0 == " " }
      if bare.isEmpty || bare.hasPrefix("#") { continue }
      let text = bare.replacing("@MAGIC@", with: magic).replacing("@WINDOW@", with: "\(window)")
        .replacing("@ALONE@", with: "\(alone)")
        .replacing("@GRACE@", with: "\(max(1, (graceMilliseconds + 999) / 1000))")
      out += Array(text.utf8) + [10]
    }
    return out
  }

  private static let source = #"""
    M='@MAGIC@'
    f() {
    read -r _ <&4
    n=${#2}
    printf "$M$1$(printf '\\%03o\\%03o\\%03o\\%03o' $((n>>24)) $((n>>16&255)) $((n>>8&255)) $((n&255)))%s" "$2" >&3
    echo >&4
    }
    # A stream's pump.
    p() {
    while read -r _ <&5; do
    b=$(dd bs=24576 count=1 2>/dev/null | base64 | tr -d '\n')
    [ "$b" ] || break
    f $1 "$b"
    done
    echo >&5
    }
    # The pump of input: so many bytes are in the pipe.
    q() {
    t=0
    while read -r n <&7; do
    [ "$n" != z ] || break
    dd bs=$n count=1 <&6 2>/dev/null
    t=$((t+n))
    f i $t
    done
    }
    # The command, in a session of its own where that can be had. What the shell has to say of its end is nobody's.
    r() {
    ( $S sh -c 'echo $$ >&6; exec 2>&5 5>&- 6>&-; exec "$@"' sh "$@" 3>&- 4>&- 7>&- 8>&- 9>&-
    echo $? >&9 ) 5>&2 2>/dev/null
    echo z >&7
    }
    g() {
    s=$({ { if [ "$I" ]; then q | r "$@"; else r "$@" </dev/null; fi 2>&1 >&8 | p R; } 8>&1 | p P >/dev/null; } 9>&1)
    f x "exit $s 0 0 "
    }
    u() { v=$(printf %s "$1" | base64 -d; echo .); v=${v%.}; }
    k() { [ -z "$P" ] || kill -$1 -$P 2>/dev/null || kill -$1 $P 2>/dev/null; }
    x() { trap '' HUP; k HUP; k TERM; [ -z "$P" ] || { sleep 1; k KILL; }; [ -z "$J" ] || kill -9 -$J $J 2>/dev/null; [ -z "$w" ] || kill -TERM -$w 2>/dev/null; }
    d=$(mktemp -d) && mkfifo -m 600 $d/4 $d/5 $d/6 $d/7
    exec 3>&1 4<>$d/4 5<>$d/5 6<>$d/6 7<>$d/7
    rm -rf "$d"
    echo >&4
    n=0
    while [ $n -lt @WINDOW@ ]; do echo >&5; n=$((n+1)); done
    S=$(command -v setsid)
    I= P= J= T= w= A=0
    trap 'x; exit 0' HUP TERM
    trap : INT QUIT
    set --
    f r "sh"
    while IFS= read -r l; do
    v=${l#?}
    case $l in
    a*) u "$v"; set -- "$@" "$v";;
    e*) u "$v"; export "$v";;
    i*) I=1;;
    t*) T=1;;
    G*)
    if [ "$T" ]; then
    f s $$
    stty "$s"
    TERM=xterm-256color sh -c 'exec "$@"' sh "$@" 3>&- 4>&- 5>&- 6>&- 7>&-
    n=$?
    stty raw -echo -iexten
    f x "exit $n 0 0 "
    else
    # Without job control a shell's background has INT and QUIT ignored for good.
    set -m
    g "$@" &
    J=$!
    set +m
    read -r P <&6
    f s $P
    fi;;
    D*)
    n=$((${#v}/4*3))
    case $v in *==) n=$((n-2));; *=) n=$((n-1));; esac
    printf %s "$v" | base64 -d >&6
    echo $n >&7;;
    Z*) echo z >&7;;
    A*) u "$v"; while [ $A -lt $v ]; do echo >&5; A=$((A+1)); done;;
    S*) u "$v"; k ${v% *};;
    K*) k TERM; k CONT; (sleep @GRACE@; k KILL) & ;;
    # A console keeps its shell when the caller goes: who isn't heard of for long is gone.
    N*)
    if [ @ALONE@ != 0 ]; then
    [ -z "$w" ] || kill -TERM -$w 2>/dev/null
    set -m
    (sleep @ALONE@; kill -HUP $$) &
    w=$!
    set +m
    fi;;
    Q*) break;;
    b*) f b "$v";;
    esac
    done
    [ "$l" = Q ] && P=
    x
    """#
}
