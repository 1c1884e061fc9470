#!/usr/bin/env bash
# Installs the program, the page and the systemd unit. Starts nothing and overwrites no configuration.
set -euo pipefail
program=$1
root=${DESTDIR:-}
prefix=$root${PREFIX:-/usr/local}
install -D -m 755 "$program" "$prefix/bin/sallyport"
rm -rf "$prefix/share/sallyport/web"
mkdir -p "$prefix/share/sallyport"
cp -r web "$prefix/share/sallyport/web"
rm -f "$prefix"/share/sallyport/web/*.py "$prefix"/share/sallyport/web/*.json
rm -rf "$prefix/share/sallyport/guest-image"
cp -r packaging/guest-image "$prefix/share/sallyport/guest-image"
install -d -m 755 "$root/etc/sallyport"
install -d -m 700 "$root/etc/sallyport/credentials"
[ -e "$root/etc/sallyport/sallyport.yaml" ] ||
  install -m 644 config/sallyport.yaml "$root/etc/sallyport/sallyport.yaml"
install -D -m 644 packaging/sallyport.service "$root/etc/systemd/system/sallyport.service"
echo "Installed to $prefix. Edit /etc/sallyport/sallyport.yaml, then: systemctl enable --now sallyport"
