#!/usr/bin/env bash
# A Python environment with the packages of a requirements file. Does nothing while the file has not changed.
set -euo pipefail
folder=$1
requirements=$2

stamp=$folder/.requirements
if [ -x "$folder/bin/python" ] && cmp -s "$requirements" "$stamp"; then exit 0; fi
[ -x "$folder/bin/python" ] || python3 -m venv "$folder"
echo "Installing the Python packages of $requirements into $folder"
for attempt in 1 2 3 4 5; do
  if "$folder/bin/python" -m pip install -q --disable-pip-version-check -r "$requirements"; then
    cp "$requirements" "$stamp"
    exit 0
  fi
  echo "pip failed (attempt $attempt); trying again" >&2
  sleep $((attempt * 10))
done
exit 1
