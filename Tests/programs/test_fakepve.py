"""Our client and relay against `fakepve`, somebody else's idea of a Proxmox VE node."""

import hashlib
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import time

import pytest
from conftest import PROGRAM, Gateway, clean_environment, cluster_yaml
from rfb import Screen
from viewer import Viewer

# fakepve's own client side of a terminal: it echoes what it gets in frames of text.
GUESTS = {"guests": [
    {"vmid": 100, "name": "fake1", "status": "running", "config": {"serial0": "socket", "memory": 512}},
    {"vmid": 101, "name": "fake2", "status": "stopped", "config": {}},
    {"vmid": 200, "name": "fakect", "type": "lxc", "status": "running", "config": {}}]}


@pytest.fixture(scope="module")
def fake(folder):
    """A running fakepve: its port and its certificate's fingerprint."""
    from fakepve.certs import make_cert
    guests = folder / "guests.json"
    guests.write_text(json.dumps(GUESTS))
    certificates = folder / "fakepve"
    certificates.mkdir()
    certificate, key, _ = make_cert(str(certificates), hosts=("127.0.0.1",))
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "fakepve", str(guests), "--host", "127.0.0.1", "--port", "0", "--time-scale", "0",
         "--cert", certificate, "--key", key],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environment(PVE_PASS="secret"))
    lines = []
    for line in process.stdout:
        lines.append(line)
        found = re.search(r"listening on https://127\.0\.0\.1:(\d+)", line)
        if found:
            break
    else:
        raise AssertionError(f"fakepve did not start: {''.join(lines)}")
    der = ssl.PEM_cert_to_DER_cert(pathlib.Path(certificate).read_text())
    digest = hashlib.sha256(der).hexdigest().upper()
    yield int(found.group(1)), ":".join(digest[i:i + 2] for i in range(0, 64, 2))
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def relay(fake, folder):
    port, fingerprint = fake
    service = Gateway(folder, cluster_yaml(
        f"127.0.0.1:{port}", "root@pam", folder, "secret", f"{{ fingerprint: \"{fingerprint}\" }}"))
    yield service
    assert service.stop() == 0, service.log


def command(fake, *arguments, **environment):
    port, fingerprint = fake
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, timeout=60,
        env=clean_environment(**{
            "SALLYPORT_PVE_HOST": f"127.0.0.1:{port}", "SALLYPORT_PVE_FINGERPRINT": fingerprint,
            "SALLYPORT_PVE_USER": "root@pam", "SALLYPORT_PVE_PASSWORD": "secret", **environment}))


def test_login_and_list(fake):
    result = command(fake, "inventory", "--output", "json")
    assert result.returncode == 0, result.stderr
    guests = json.loads(result.stdout)["clusters"][0]["guests"]
    assert {(g["name"], g["type"], g["status"]) for g in guests} == {
        ("fake1", "qemu", "running"), ("fake2", "qemu", "stopped"), ("fakect", "lxc", "running")}


def test_the_raw_api(fake):
    result = command(fake, "api", "get", "/nodes/pve1/qemu/100/status/current")
    assert result.returncode == 0 and json.loads(result.stdout)["status"] == "running", result.stderr


def test_a_wrong_password_is_said_as_such(fake):
    result = command(fake, "inventory", SALLYPORT_PVE_PASSWORD="wrong")
    assert result.returncode == 21 and "login-failed" in result.stderr


def test_the_inventory_through_the_gateway(relay):
    status, answer = relay.call("GET", "/v1/inventory")
    assert status == 200 and [c["name"] for c in answer["clusters"]] == ["test"]
    assert {g["name"] for g in answer["clusters"][0]["guests"]} == {"fake1", "fake2", "fakect"}


def test_the_terminal_of_a_vm(relay):
    with Viewer(relay, relay.link("qemu/100", "serial0")) as viewer:
        viewer.ready()
        viewer.read_until("starting serial terminal on interface serial0")
        for text in ("hello", "ünï 日本", "a\r"):
            viewer.type(text)
            viewer.read_until(re.escape(text))


def test_a_long_paste_into_the_terminal(relay):
    text = "äöü 日本語 🙂 " * 3000
    with Viewer(relay, relay.link("qemu/100", "serial0")) as viewer:
        viewer.ready()
        viewer.read_until("serial0\r\n")
        viewer.type("begin")
        viewer.read_until("begin")
        viewer.type(text[:2000])
        assert viewer.take(len(text[:2000].encode())) == text[:2000].encode()


def test_the_screen_of_a_vm(relay):
    """fakepve reads the client's messages in one fixed order, and draws one picture."""
    import struct
    with Viewer(relay, relay.link("qemu/100", "vnc"), size=None) as viewer:
        viewer.ready()
        assert viewer.take(12) == b"RFB 003.008\n"
        viewer.type(b"RFB 003.008\n")
        assert viewer.take(2) == b"\x01\x01"
        viewer.type(b"\x01")
        assert viewer.take(4) == bytes(4)
        viewer.type(b"\x01")
        head = viewer.take(24)
        width, height = struct.unpack(">HH", head[:4])
        assert viewer.take(struct.unpack(">I", head[20:])[0]) == b"fake1"
        viewer.type(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        viewer.type(struct.pack(">BxHi", 2, 1, 0))
        viewer.type(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        assert viewer.take(1) == b"\x02"  # a bell first, which no client may stumble over
        assert viewer.take(4) == b"\x00\x00\x00\x02"
        rows = b""
        for _ in range(2):
            _, _, w, h, encoding = struct.unpack(">HHHHi", viewer.take(12))
            assert encoding == 0
            rows += viewer.take(w * h * 4)
        expected = bytes(range(24))
        assert [rows[i * 4:i * 4 + 3] for i in range(8)] == [expected[i * 3:i * 3 + 3][::-1] for i in range(8)]


def test_the_console_command(fake):
    result = subprocess.run(
        [PROGRAM, "console", "fake1", "--serial", "0", "--linger", "1"], input=b"typed by a pipe", capture_output=True,
        timeout=60, env={**clean_environment(), "SALLYPORT_PVE_HOST": f"127.0.0.1:{fake[0]}",
                         "SALLYPORT_PVE_FINGERPRINT": fake[1], "SALLYPORT_PVE_USER": "root@pam",
                         "SALLYPORT_PVE_PASSWORD": "secret"})
    assert result.returncode == 0, result.stderr
    assert b"typed by a pipe" in result.stdout
