#!/usr/bin/env bash
# Builds the small Linux that `sallyport node --with-qemu` boots: Debian's cloud kernel, and an initramfs with busybox
# and qemu-guest-agent out of Debian's packages. Nothing is installed; needs apt-get and dpkg-deb, no root.
#
#   packaging/guest-image/build.sh FOLDER     makes FOLDER/vmlinuz and FOLDER/initrd
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?the folder to build into}
fail() { echo "guest image: $1" >&2; exit 1; }
for tool in apt-get apt-cache dpkg-deb gzip; do
  command -v "$tool" >/dev/null || fail "there is no $tool on this machine; the guest is made of Debian's packages"
done
[ "$(dpkg --print-architecture)" = amd64 ] || fail "it is made for amd64 only"

mkdir -p "$out"
work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/packages" "$work/files" "$work/root"

# A machine whose package lists are missing or old gets lists of its own, so that this needs no root.
apt=()
lists() {
  apt=(-o "Dir::State=$work/apt" -o "Dir::State::status=/var/lib/dpkg/status" -o "Dir::Cache=$work/apt/cache")
  mkdir -p "$work/apt/lists/partial" "$work/apt/cache/archives/partial"
  apt-get "${apt[@]}" update -q >"$work/update.log" 2>&1
}
kernel() {
  apt-cache "${apt[@]}" depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1
}
# apt fetches as a user of its own where it can; the folder is ours, and a note about that would worry people.
fetch() { (cd "$work/packages" && apt-get "${apt[@]}" -o APT::Sandbox::User= download -q "$@") >"$work/fetch.log" 2>&1; }
wanted() {
  image=$(kernel)
  [ -n "$image" ] && fetch "$image" busybox-static qemu-guest-agent libc6 libglib2.0-0 libnuma1 libudev1 liburing2 \
    libpcre2-8-0
}
echo "guest image: fetching Debian's kernel, busybox and qemu-guest-agent"
wanted || { lists && wanted; } || {
  tail -n 3 "$work"/*.log >&2
  fail "Debian's packages can't be fetched (no network, or no mirror in /etc/apt)"
}
for package in "$work"/packages/*.deb; do dpkg-deb -x "$package" "$work/files"; done

version=${image#linux-image-}
files=$work/files
root=$work/root
mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,root,etc,mnt,var/log,var/run,usr/bin,usr/sbin,lib64,lib/x86_64-linux-gnu}
mkdir -p "$root/lib/modules/$version"
cp "$files/bin/busybox" "$root/bin/busybox"
chmod 755 "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
  [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
cp "$files/usr/sbin/qemu-ga" "$root/usr/sbin/"
# What the agent is linked with, as the packages' own loader sees it.
loader=$(find "$files/lib" "$files/lib64" -name ld-linux-x86-64.so.2 -print -quit)
[ -n "$loader" ] || fail "libc6 holds no loader"
cp -L "$loader" "$root/lib64/"
"$root/lib64/ld-linux-x86-64.so.2" --library-path "$files/lib/x86_64-linux-gnu:$files/usr/lib/x86_64-linux-gnu" \
  --list "$files/usr/sbin/qemu-ga" | sed -n 's/.* => \(.*\) (0x.*/\1/p' >"$work/libraries"
while read -r library; do cp -L "$library" "$root/lib/x86_64-linux-gnu/"; done <"$work/libraries"
# In the order in which they are loaded.
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_console \
  virtio-rng button evdev; do
  path=$(find "$files/lib/modules/$version" -name "$module.ko" -print -quit)
  [ -z "$path" ] || { cp "$path" "$root/lib/modules/$version/"; echo "$module" >>"$root/lib/modules/$version/order"; }
done
cp -R "$here/root/." "$root/"
chmod 755 "$root/init" "$root/etc/rc" "$root/sbin/shutdown" "$root/etc/acpi/PWRF/00000080"

(cd "$root" && find . | LC_ALL=C sort | ./bin/busybox cpio -o -H newc 2>/dev/null) | gzip -1 >"$work/initrd"
cp "$files/boot/vmlinuz-$version" "$work/vmlinuz"
echo "$version" >"$work/version"
# The initramfs last: it says that the image is whole.
mv "$work/vmlinuz" "$work/version" "$out/"
mv "$work/initrd" "$out/initrd"
echo "guest image: Linux $version, $(du -h "$out/initrd" | cut -f 1) of initramfs, in $out"
