#!/bin/sh
# Rolls a file out to guests and says how it went. Each step's exit code is the guest's, so that `set -e` and `if` mean
# what they say:
#
#   exec.sh site.conf web1 web2 …
#
# Where to go stands in the environment, either a gateway
#   SALLYPORT_GATEWAY=https://consoles.example.com  SALLYPORT_API_KEY=…
# or a node
#   SALLYPORT_PVE_HOST=pve1.example.com  SALLYPORT_PVE_USER=root@pam  SALLYPORT_PVE_PASSWORD=…
#   SALLYPORT_PVE_FINGERPRINT=AA:BB:…
set -u

file=${1:?usage: exec.sh FILE GUEST…}
shift
sallyport=${SALLYPORT:-sallyport}
folder=${FOLDER:-/tmp}
failed=0

for guest; do
  # Nothing is in its place before its SHA-256 is right at both ends.
  if ! "$sallyport" cp --quiet "$file" "$guest:$folder/"; then
    failed=1
    continue
  fi
  # -n: the loop's standard input is not the guest's.
  lines=$("$sallyport" exec -n "$guest" --timeout 30s -- wc -l "$folder/$(basename "$file")")
  code=$?
  case $code in
  0) echo "$guest: $lines" ;;
  210) echo "$guest: not done within 30 seconds" >&2; failed=1 ;;
  20[0-9] | 21[0-9]) echo "$guest: not run ($code)" >&2; failed=1 ;;
  *) echo "$guest: wc ended with $code" >&2; failed=1 ;;
  esac
done
exit $failed
