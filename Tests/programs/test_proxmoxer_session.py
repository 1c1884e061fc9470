"""A whole session of `proxmoxer`, unchanged: what a provisioning script does with a cluster, in each way to log in."""

import base64
import hashlib
import hmac
import struct
import time

import pytest
from conftest import Service
from proxmoxer import ProxmoxAPI

GIB = 1 << 30


@pytest.fixture(scope="module")
def cluster():
    """A node of its own, as a session changes much."""
    service = Service("node", "--json")
    yield service
    service.stop()


def totp(secret):
    mac = hmac.new(base64.b32decode(secret), struct.pack(">Q", int(time.time()) // 30), hashlib.sha1).digest()
    at = mac[-1] & 15
    return f"{(struct.unpack('>I', mac[at:at + 4])[0] & 0x7FFFFFFF) % 1_000_000:06d}"


def login(cluster, way):
    card = cluster.card
    if way == "token":
        user, name = card["token"]["id"].split("!")
        how = {"user": user, "token_name": name, "token_value": card["token"]["secret"]}
    elif way == "password":
        how = {"user": "root@pam", "password": card["users"]["root@pam"]}
    else:
        how = {"user": "totp@pve", "password": card["users"]["totp@pve"], "otp": totp("JBSWY3DPEHPK3PXP")}
    return ProxmoxAPI(card["host"], port=card["port"], verify_ssl=False, timeout=120, **how)


def finish(api, upid):
    for _ in range(600):
        status = api.nodes("pve1").tasks(upid).status.get()
        if status["status"] == "stopped":
            return status["exitstatus"]
        time.sleep(0.05)
    raise AssertionError(f"{upid} does not end")


def resident(cluster):
    for line in open(f"/proc/{cluster.process.pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


@pytest.mark.parametrize("way", ["token", "password", "totp"])
def test_a_machine_from_its_making_to_its_end(cluster, way):
    api = login(cluster, way)
    node = api.nodes("pve1")
    vmid = int(api.cluster.nextid.get())
    assert vmid not in {guest["vmid"] for guest in api.cluster.resources.get(type="vm")}
    options = {"name": f"made-by-{way}", "memory": 1024, "scsi0": "local-lvm:8", "net0": "virtio,bridge=vmbr0", "agent": "1"}
    assert finish(api, node.qemu.post(vmid=vmid, **options)) == "OK"
    machine = node.qemu(vmid)
    assert machine.config.get()["scsi0"].endswith("size=8G")
    assert finish(api, machine.status.start.post()) == "OK"
    assert finish(api, machine.snapshot.post(snapname="fresh")) == "OK"
    assert {s["name"] for s in machine.snapshot.get()} == {"fresh", "current"}
    pid = machine.agent.exec.post(command=["/bin/sh", "-c", "echo to-$((40+2)); exit 3"])["pid"]
    for _ in range(200):
        status = machine.agent("exec-status").get(pid=pid)
        if status["exited"]:
            break
        time.sleep(0.05)
    assert (status["exitcode"], status["out-data"]) == (3, "to-42\n")
    assert finish(api, machine.status.stop.post()) == "OK"
    assert finish(api, machine.delete()) == "OK"
    assert vmid not in {guest["vmid"] for guest in api.cluster.resources.get(type="vm")}


@pytest.mark.timeout(300)
def test_an_iso_of_a_gibibyte_in_flat_memory(cluster, tmp_path):
    api = login(cluster, "token")
    image = tmp_path / "large.iso"
    with open(image, "wb") as file:
        file.truncate(GIB)
    before = resident(cluster)
    with open(image, "rb") as file:
        upid = api.nodes("pve1").storage("local").upload.post(content="iso", filename=file)
    assert resident(cluster) - before < 32 << 20
    assert finish(api, upid) == "OK"
    volumes = api.nodes("pve1").storage("local").content.get(content="iso")
    assert {v["volid"]: v["size"] for v in volumes}["local:iso/large.iso"] == GIB
