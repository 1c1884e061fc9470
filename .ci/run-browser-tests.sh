#!/usr/bin/env bash
# The browser tests against a real gateway in front of the embedded node.
set -euo pipefail
venv=$1
# The newer one, as in Tests/programs.
program=${SALLYPORT:-.build/debug/sallyport}
[ -n "${SALLYPORT:-}" ] || [ ! .build/release/sallyport -nt "$program" ] || program=.build/release/sallyport
folder=$(mktemp -d)
qemu=()
if command -v qemu-system-x86_64 >/dev/null; then
  qemu=(--with-qemu)
  export SALLYPORT_QEMU=1
fi
"$program" demo --json --port 0 "${qemu[@]}" >"$folder/demo.json" 2>"$folder/demo.log" &
demo=$!
trap 'kill $demo 2>/dev/null || true; wait $demo 2>/dev/null || true; rm -rf "$folder"' EXIT
for _ in $(seq 100); do
  [ -s "$folder/demo.json" ] && break
  kill -0 $demo 2>/dev/null || { cat "$folder/demo.log" >&2; exit 1; }
  sleep 0.1
done
read -r SALLYPORT_URL SALLYPORT_KEY < <("$venv/bin/python" -c '
import json, sys
demo = json.loads(open(sys.argv[1]).readline())
print(demo["url"], demo["key"])' "$folder/demo.json")
export SALLYPORT_NODE="$folder/demo.json"
export SALLYPORT_URL SALLYPORT_KEY SALLYPORT="$program"
"$venv/bin/python" -m pytest Tests/browser -q --color=no
