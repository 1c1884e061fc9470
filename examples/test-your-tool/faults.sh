#!/bin/sh
# A node, a fault, and what a client sees of it; then the journal. Needs curl and python3 (to read JSON).
set -eu
folder=$(mktemp -d)
"${SALLYPORT:-sallyport}" node --json >"$folder/card" &
node=$!
trap 'kill $node; rm -rf "$folder"' EXIT
while ! [ -s "$folder/card" ]; do kill -0 $node; sleep 0.05; done

field() { python3 -c 'import functools, json, sys
print(functools.reduce(lambda at, key: at[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$folder/card" "$@"; }
field ca >"$folder/ca.pem"
url=$(field url)
# The token goes to curl by a file, not by its arguments, which every user of this machine can read.
printf 'header = "Authorization: PVEAPIToken=%s=%s"\n' "$(field token id)" "$(field token secret)" >"$folder/token"
chmod 600 "$folder/token"
call() { curl --silent --cacert "$folder/ca.pem" "$@"; }

# The third request for a version is answered by a 500; every answer comes 100 ms late.
call -H 'Content-Type: application/json' "$url/simulator/faults" >/dev/null --data '[
  { "status": 500, "message": "got timeout", "path": "/version", "nth": 3 },
  { "latency": "100ms", "jitter": "20ms" }]'
for i in 1 2 3 4; do
  call --config "$folder/token" --output /dev/null --write-out "request $i: %{http_code}\n" "$url/api2/json/version"
done

# What was asked, without anybody's secrets.
call "$url/simulator/journal?path=/version" | python3 -c 'import json, sys
for entry in json.load(sys.stdin)["entries"]: print(entry["method"], entry["path"], entry["status"])'
