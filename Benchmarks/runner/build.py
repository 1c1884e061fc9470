"""What a run needs before it starts: the load's programs, a certificate, peers from PyPI."""

import os
import shutil
import subprocess
import sys

from .processes import Failure

COMMON = ["transport.c", "channel.c", "rfb.c", "http.c", "park.c"]
PROGRAMS = {
    "backend": ["backend.c", "guest.c", "node.c"],
    "generator": ["generator.c", "loads.c", "viewer.c", "route.c"],
    "requests": ["requests.c"],
}
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra"]
LIBRARIES = ["-lssl", "-lcrypto", "-lpthread"]


def compile_load(sources, directory):
    """Compiles the load's programs; returns their paths by name."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("clang")
    if compiler is None:
        raise Failure("there is no C compiler (cc or clang)")
    programs = {}
    for name, files in PROGRAMS.items():
        programs[name] = os.path.join(directory, name)
        paths = [os.path.join(sources, file) for file in files + COMMON]
        command = [compiler, *FLAGS, "-o", programs[name], *paths, *LIBRARIES]
        if subprocess.run(command).returncode != 0:
            raise Failure(f"{name} does not compile (is libssl-dev installed?)")
    return programs


def make_certificate(directory):
    """A self-signed certificate as a PVE node has one (RSA 2048); returns the two PEM paths."""
    certificate, key = (os.path.join(directory, name) for name in ("node.pem", "node.key"))
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=pve1", "-addext", "subjectAltName=DNS:pve1,IP:127.0.0.1",
        "-out", certificate, "-keyout", key]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0:
        raise Failure(f"openssl makes no certificate: {made.stderr.strip()}")
    return certificate, key


def install(directory, name, packages):
    """Packages of PyPI in a virtual environment of their own; returns its folder of programs."""
    environment = os.path.join(directory, name)
    programs = os.path.join(environment, "bin")
    done = os.path.join(environment, "installed")
    wanted = "\n".join(packages)
    if os.path.exists(done):
        with open(done) as file:
            if file.read() == wanted:
                return programs
    print(f"installing {name} …", flush=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", environment],
        [os.path.join(programs, "pip"), "install", "-q", "--disable-pip-version-check", *packages],
    ):
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise Failure("pip did not finish in five minutes")
        if ran.returncode != 0:
            raise Failure((ran.stderr or ran.stdout).strip().splitlines()[-1])
    with open(done, "w") as file:
        file.write(wanted)
    return programs


def install_websockify(directory):
    """websockify 0.13 with numpy; returns its path."""
    return os.path.join(
        install(directory, "websockify", ["websockify==0.13.0", "numpy"]), "websockify")
