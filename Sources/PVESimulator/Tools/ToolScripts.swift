/// The text of `pct` and `qm`. They are shell scripts, so that a command's words and its three streams never pass
/// through anything but the kernel: the simulator is only asked where to go.
enum ToolScripts {
  /// What both begin with.
  static let common = #"""
    # What pct and qm share. The simulator reads questions from the named pipe `ask` and answers on one of ours.
    ask() {
      reply=$here/reply.$$
      mkfifo -m 600 "$reply" || exit 255
      exec 9<>"$reply"
      printf '%s\n' "$$ $*" >"$here/ask"
      read -r act one two three <&9
      exec 9<&-
      [ ! -s "$here/out.$$" ] || cat "$here/out.$$"
      [ ! -s "$here/err.$$" ] || cat "$here/err.$$" >&2
      rm -f "$reply" "$here/out.$$" "$here/err.$$" "$here/args.$$" "$here/input.$$"
    }
    fail() { printf '%s\n' "$1" >&2; exit 255; }
    # Asks, prints what came back, and ends with its status.
    pass() { ask "$@"; exit "$one"; }
    number() {
      case $1 in
        '' | *[!0-9]*) fail "400 Parameter verification failed.
    vmid: type check ('integer') failed - got '$1'" ;;
      esac
    }
    tool=${0##*/}
    usage() { fail "ERROR: unknown command '$tool $1'
    USAGE: $tool <COMMAND> [ARGS] [OPTIONS]"; }

    """#

  /// The container tool.
  static let pct =
    head
      + #"""
      enter() {
        case $act in
          enter) ;;
          plain)
            export "$one"
            cd "$two" 2>/dev/null || cd /
            exec "$@" ;;
          *) exit "$one" ;;
        esac
        command -v nsenter >/dev/null || fail "nsenter is not installed"
        place=/proc/$one/root$PWD
        [ -d "$place" ] || place=/proc/$one/root
        user=
        [ "$two" = 0 ] || user="--user --preserve-credentials"
        unset SALLYPORT_CONSOLE
        export container=lxc HOME=/root HOSTNAME="$three" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        exec nsenter $user --target "$one" --mount --uts --ipc --net --pid --wd="$place" -- "$@"
      }
      word=$1
      [ $# -eq 0 ] || shift
      case $word in
        list) pass list lxc ;;
        status | start | stop | shutdown | reboot)
          number "$1"
          pass "$word" lxc "$1" ;;
        enter)
          number "$1"
          id=$1
          ask enter lxc "$id"
          export PS1="root@$three:\\w# "
          if [ -x /bin/bash ]; then enter /bin/bash --norc --noprofile -i; else enter /bin/sh -i; fi ;;
        exec)
          # Options before `--` are ours; every other word is kept as it is, in its place.
          id= keep=1 over= left=$#
          while [ "$left" -gt 0 ]; do
            word=$1
            shift
            left=$((left - 1))
            if [ -z "$over" ]; then
              case $word in
                --) over=1; continue ;;
                --keep-env | -keep-env)
                  keep=$1
                  shift
                  left=$((left - 1))
                  continue ;;
                --keep-env=* | -keep-env=*) keep=${word#*=}; continue ;;
                -?*) fail "Unknown option: ${word#-}
      400 unable to parse option
      pct exec <vmid> [<extra-args>] [OPTIONS]" ;;
              esac
              if [ -z "$id" ]; then id=$word; continue; fi
            fi
            set -- "$@" "$word"
          done
          number "$id"
          ask exec lxc "$id"
          [ "$act" != done ] || exit "$one"
          [ $# -gt 0 ] || fail "missing command"
          if [ "$keep" = 0 ]; then set -- env -i "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" container=lxc "TERM=${TERM:-linux}" "$@"; fi
          enter "$@" ;;
        *) usage "$word" ;;
      esac

      """#

  /// The VM tool.
  static let qm =
    head
      + #"""
      word=$1
      [ $# -eq 0 ] || shift
      case $word in
        list) pass list qemu ;;
        status | start | stop | shutdown | reset | reboot)
          number "$1"
          pass "$word" qemu "$1" ;;
        guest)
          word=$1
          [ $# -eq 0 ] || shift
          case $word in
            cmd) number "$1"; pass guest-cmd qemu "$1" "$2" ;;
            exec-status) number "$1"; pass guest-exec-status qemu "$1" "$2" ;;
            exec) ;;
            *) usage "guest $word" ;;
          esac
          id= wait=1 limit=30 input=0 over= left=$#
          while [ "$left" -gt 0 ]; do
            word=$1
            shift
            left=$((left - 1))
            if [ -z "$over" ]; then
              case $word in
                --) over=1; continue ;;
                --synchronous | --timeout | --pass-stdin)
                  case $word in
                    --synchronous) wait=$1 ;;
                    --timeout) limit=$1 ;;
                    --pass-stdin) input=$1 ;;
                  esac
                  shift
                  left=$((left - 1))
                  continue ;;
                -?*) fail "Unknown option: ${word#-}
      400 unable to parse option
      qm guest exec <vmid> [<extra-args>] [OPTIONS]" ;;
              esac
              if [ -z "$id" ]; then id=$word; continue; fi
            fi
            set -- "$@" "$word"
          done
          number "$id"
          [ $# -eq 0 ] || printf '%s\0' "$@" >"$here/args.$$"
          [ "$input" != 1 ] || cat >"$here/input.$$"
          pass guest-exec qemu "$id" "$wait" "$limit" ;;
        *) usage "$word" ;;
      esac

      """#

  private static let head = #"""
    #!/bin/sh
    # A tool of a simulated Proxmox VE node.
    here=${0%/*}
    . "$here/common"

    """#
}
