/// What `cp` runs in a guest: POSIX shell, with what coreutils and busybox have. Arguments come as `$1`, `$2` …, never
/// as text of a script.
enum CopyScripts {
  /// `h`: the SHA-256 of standard input, or `none` where nothing can compute it.
  private static let hash = """
    h() {
      if command -v sha256sum >/dev/null 2>&1; then sha256sum
      elif command -v shasum >/dev/null 2>&1; then shasum -a 256
      elif command -v openssl >/dev/null 2>&1; then openssl dgst -sha256 -r
      elif command -v sha256 >/dev/null 2>&1; then sha256 -q
      else cat >/dev/null; echo none; fi | { read -r a b; echo "$a"; }
    }

    """

  /// Where a file goes to, and what is there of an earlier try.
  ///
  /// Arguments: destination, the source's name, the content's mark. Answers a line `ok SIZE HASH MODE` with the partial
  /// file's size and hash and the mode of what is there now (`-` for nothing), then the path; or `isdir`, `nodir`,
  /// `notwritable`.
  static let uploadProbe =
    hash + """
      d=$1
      if [ -d "$d" ] && [ -n "$2" ]; then d=${d%/}/$2; fi
      if [ -d "$d" ]; then echo isdir; printf '%s\\n' "$d"; exit 0; fi
      dir=${d%/*}; [ -n "$dir" ] || dir=/
      if ! [ -d "$dir" ]; then echo nodir; printf '%s\\n' "$dir"; exit 0; fi
      if ! [ -w "$dir" ]; then echo notwritable; printf '%s\\n' "$dir"; exit 0; fi
      p=${dir%/}/.${d##*/}.$3.part
      s=0; k=-; m=-
      if [ -f "$p" ]; then
        s=$(wc -c < "$p"); s=$((s + 0))
        if [ "$s" -gt 0 ]; then k=$(h < "$p"); fi
      fi
      if [ -f "$d" ]; then m=$(stat -c %a -- "$d" 2>/dev/null || echo -); fi
      echo "ok $s $k $m"
      printf '%s\\n' "$d"
      """

  /// Takes a file's bytes from an offset on.
  ///
  /// Arguments: path, mark, offset. Answers `SIZE HASH` of the partial file then.
  static let uploadSend =
    hash + """
      d=$1; dir=${d%/*}; p=${dir%/}/.${d##*/}.$2.part
      umask 077
      if [ "$3" = 0 ]; then : > "$p" || exit 91; fi
      cat >> "$p" || exit 92
      s=$(wc -c < "$p")
      echo "$((s + 0)) $(h < "$p")"
      """

  /// Puts a whole partial file in its place. Arguments: path, mark, mode.
  static let uploadFinish = """
    d=$1; dir=${d%/*}; p=${dir%/}/.${d##*/}.$2.part
    chmod "$3" "$p" && mv -f -- "$p" "$d"
    """

  /// Removes a partial file. Arguments: path, mark.
  static let uploadDrop = """
    d=$1; dir=${d%/*}; rm -f -- "${dir%/}/.${d##*/}.$2.part"
    """

  /// What a path is. Arguments: path, bytes that we have of it already. Answers `file SIZE MODE HASH` with the hash of
  /// that many bytes (`-` where it hasn't so many), or `dir`, `none`, `unreadable`, `special`.
  static let downloadProbe =
    hash + """
      f=$1
      if [ -d "$f" ]; then echo dir; exit 0; fi
      if ! [ -e "$f" ]; then echo none; exit 0; fi
      if ! [ -r "$f" ]; then echo unreadable; exit 0; fi
      if ! [ -f "$f" ]; then echo special; exit 0; fi
      s=$(wc -c < "$f") || exit 91
      s=$((s + 0)); k=-
      m=$(stat -c %a -- "$f" 2>/dev/null || echo 644)
      if [ "$2" -gt 0 ] && [ "$2" -le "$s" ]; then k=$(head -c "$2" -- "$f" | h); fi
      echo "file $s $m $k"
      """

  /// A file's bytes. Arguments: path, first byte's number from 1, how many at most (or `all`).
  static let downloadSend = """
    if [ "$3" = all ]; then
      if [ "$2" = 1 ]; then exec cat -- "$1"; fi
      exec tail -c "+$2" -- "$1"
    fi
    tail -c "+$2" -- "$1" | head -c "$3"
    """

  /// A file's hash. Argument: path.
  static let downloadHash = hash + "h < \"$1\"\n"

  /// Unpacks a tar archive beside its destination.
  ///
  /// Arguments: destination, the source's name, `replace` or `keep`. Answers `ok HASH`, then the temporary folder, then
  /// the path; or `exists` and the path, `nodir`, `notar`, `tar CODE`.
  static let treeReceive =
    hash + """
      command -v tar >/dev/null 2>&1 || { echo notar; exit 0; }
      d=$1
      if [ -d "$d" ]; then d=${d%/}/$2; fi
      d=${d%/}
      if [ -e "$d" ] && [ "$3" != replace ]; then echo exists; printf '%s\\n' "$d"; exit 0; fi
      dir=${d%/*}; [ -n "$dir" ] || dir=/
      [ -d "$dir" ] || { echo nodir; printf '%s\\n' "$dir"; exit 0; }
      t=$(mktemp -d "${dir%/}/.${d##*/}.sallyport-XXXXXX") || exit 91
      keep=no
      trap '[ $keep = yes ] || rm -rf -- "$t"' EXIT
      trap 'exit 143' HUP TERM INT
      mkfifo "$t/h" && mkdir "$t/x" || exit 91
      h < "$t/h" > "$t/sum" &
      tee "$t/h" | { tar -xpf - -C "$t/x"; echo $? > "$t/rc"; cat > /dev/null; }
      wait
      rc=$(cat "$t/rc")
      if [ "$rc" != 0 ]; then echo "tar $rc"; exit 0; fi
      keep=yes
      echo "ok $(cat "$t/sum")"
      printf '%s\\n' "${t##*/}"
      printf '%s\\n' "$d"
      """

  /// Puts an unpacked tree in its place, or drops it. Arguments: the temporary folder's name, the source's name, path,
  /// `put` or `drop`.
  static let treeFinish = """
    d=$3; dir=${d%/*}; t=${dir%/}/$1
    case $1 in .*.sallyport-*) ;; *) exit 91 ;; esac
    if [ "$4" = put ]; then
      if [ -e "$d" ]; then mv -- "$d" "$t/old" || exit 92; fi
      mv -- "$t/x/$2" "$d" || { [ -e "$t/old" ] && mv -- "$t/old" "$d"; exit 93; }
    fi
    rm -rf -- "$t"
    """

  /// A folder as a tar archive on standard output; on standard error, last, a line `sallyport-cp HASH CODE`.
  /// Argument: path.
  static let treeSend =
    hash + """
      command -v tar >/dev/null 2>&1 || { echo 'sallyport-cp none notar' >&2; exit 0; }
      d=${1%/}; [ -n "$d" ] || { echo 'sallyport-cp none root' >&2; exit 0; }
      dir=${d%/*}; [ -n "$dir" ] || dir=/
      t=$(mktemp -d "${TMPDIR:-/tmp}/sallyport-XXXXXX") || exit 91
      trap 'rm -rf -- "$t"' EXIT
      trap 'exit 143' HUP TERM INT
      mkfifo "$t/h" || exit 91
      h < "$t/h" > "$t/sum" &
      { tar -C "$dir" -cf - -- "${d##*/}"; echo $? > "$t/rc"; } | tee "$t/h"
      wait
      echo "sallyport-cp $(cat "$t/sum") $(cat "$t/rc")" >&2
      """
}
