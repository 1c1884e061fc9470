#!/bin/sh
# Opens the terminal of a guest or node:
#
#   terminal.sh web1                      the terminal, here
#   terminal.sh web1 --link               a one-time link for a browser instead (needs a gateway, curl and python3)
#   echo uptime | terminal.sh web1        runs a line and shows what comes back
#
# Where to go stands in the environment, either a gateway
#   SALLYPORT_GATEWAY=https://consoles.example.com  SALLYPORT_API_KEY=…
# or a node
#   SALLYPORT_PVE_HOST=pve1.example.com  SALLYPORT_PVE_TOKEN_ID=user@realm!name  SALLYPORT_PVE_TOKEN_SECRET=…
#   SALLYPORT_PVE_FINGERPRINT=AA:BB:…
set -eu

target=${1:?usage: terminal.sh TARGET [--link]}
sallyport=${SALLYPORT:-sallyport}

if [ "${2:-}" = --link ]; then
  # The API by hand. The key goes through standard input, so that it is in no process list.
  body=$(python3 -c 'import json, sys; print(json.dumps({"target": sys.argv[1], "console": "terminal"}))' "$target")
  printf 'header = "Authorization: Bearer %s"\n' "${SALLYPORT_API_KEY:?}" |
    curl --silent --show-error --fail-with-body --config - \
      --header 'Content-Type: application/json' --data "$body" "${SALLYPORT_GATEWAY:?}/v1/consoles" |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["url"])'
  exit
fi
exec "$sallyport" console "$target"
