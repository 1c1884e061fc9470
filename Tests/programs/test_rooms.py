"""What runs in guests of the embedded node: as root, as another user, and on a kernel that gives no namespaces."""

import json
import os
import shutil
import time

import pytest
import requests
from conftest import PROGRAM, Service
from proxmoxer import ProxmoxAPI


class Node:
    """An embedded node and its VM 100, through proxmoxer."""

    def __init__(self, folder, **environment):
        self.service = Service("node", "--json", **environment)
        card = self.service.card
        authority = folder / f"authority-{card['port']}.pem"
        authority.write_text(card["ca"])
        self.api = ProxmoxAPI(
            card["host"], port=card["port"], user="root@pam", password=card["users"]["root@pam"],
            verify_ssl=str(authority), timeout=30)
        self.vm = self.api.nodes("pve1").qemu(100)
        self.real = requests.get(f"{card['url']}/simulator", verify=str(authority), timeout=30).json()["real"]

    def run(self, *words, **more):
        pid = self.vm.agent("exec").post(command=list(words), **more)["pid"]
        for _ in range(600):
            status = self.vm.agent("exec-status").get(pid=pid)
            if status["exited"]:
                return status
            time.sleep(0.02)
        raise AssertionError(f"{words} doesn't end")


@pytest.fixture(params=["as the kernel lets us", "without namespaces"])
def node(request, folder):
    node = Node(folder, **({"SALLYPORT_NAMESPACES": "0"} if request.param == "without namespaces" else {}))
    node.walls = "namespaces, with" in node.real["containers"] or "namespaces of" in node.real["containers"]
    assert not (node.walls and request.param == "without namespaces")
    yield node
    assert node.service.stop() == 0, node.service.log


def test_the_agent_runs_commands_and_says_what_it_is(node):
    end = node.run("/bin/sh", "-c", "cat; echo err >&2; exit 5", **{"input-data": "in"})
    assert (end["out-data"], end["err-data"], end["exitcode"]) == ("in", "err\n", 5)
    expected = "qemu-ga" if shutil.which("qemu-ga") or os.path.exists("/usr/sbin/qemu-ga") else "our own"
    assert expected in node.real["agents"]
    name = node.vm.agent("get-host-name").get()["result"]["host-name"]
    assert (name == "web1") == node.walls
    assert (node.run("/bin/sh", "-c", "readlink /proc/1/exe; cat /proc/1/cmdline")["out-data"].find("/sbin/init") >= 0
            or not node.walls)


def test_what_a_guest_started_ends_with_it(node):
    mark = f"sallyport-{os.getpid()}-{node.service.card['port']}"
    node.run("/bin/sh", "-c", f"MARK={mark} setsid sleep 1000 >/dev/null 2>&1 &")
    assert marked(mark)
    node.vm.status.stop.post()
    for _ in range(250):
        if not marked(mark):
            return
        time.sleep(0.02)
    raise AssertionError(f"still there: {marked(mark)}")


def test_files_stay_over_a_restart(node):
    if not node.walls:
        pytest.skip("the kernel gives no namespaces, or was told not to")
    node.vm.agent("file-write").post(file="/root/note", content="kept")
    assert not os.path.exists("/root/note")
    node.vm.status.stop.post()
    for _ in range(250):
        if node.vm.status.current.get()["status"] == "stopped":
            break
        time.sleep(0.02)
    node.vm.status.start.post()
    for _ in range(250):
        if node.vm.status.current.get()["status"] == "running":
            break
        time.sleep(0.02)
    assert node.vm.agent("file-read").get(file="/root/note")["content"] == "kept"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_has_rooms_too(folder, tmp_path):
    """A user namespace, where the kernel gives one to everybody; else no walls. Both must work."""
    copy = "/tmp/sallyport-test-program"
    shutil.copy(PROGRAM, copy)
    os.chmod(copy, 0o755)
    try:
        import subprocess
        process = subprocess.Popen(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", copy, "node", "--json"],
            stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"}, cwd="/", text=True)
        card = json.loads(process.stdout.readline())
        authority = folder / "authority-nobody.pem"
        authority.write_text(card["ca"])
        api = ProxmoxAPI(
            card["host"], port=card["port"], user="root@pam", password=card["users"]["root@pam"],
            verify_ssl=str(authority), timeout=30)
        agent = api.nodes("pve1").qemu(100).agent
        pid = agent("exec").post(command=["/usr/bin/id", "-u"])["pid"]
        status = agent("exec-status").get(pid=pid)
        while not status["exited"]:
            status = agent("exec-status").get(pid=pid)
        real = requests.get(f"{card['url']}/simulator", verify=str(authority), timeout=30).json()["real"]
        assert status["out-data"] == ("0\n" if "namespaces of your user" in real["containers"] else "65534\n")
        process.terminate()
        assert process.wait(15) == 0
    finally:
        os.unlink(copy)


def marked(mark):
    """Processes with the mark in their environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if f"MARK={mark}".encode() in file.read():
                    found.append(pid)
        except OSError:
            pass
    return found
