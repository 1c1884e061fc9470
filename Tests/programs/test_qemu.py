"""A real QEMU behind the embedded node, which boots a small Linux: its screen, its serial login, its guest agent."""

import re
import shutil
import time

import pytest
from conftest import Gateway, Service, cluster_yaml
from proxmoxer import ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks
from rfb import Screen
from viewer import Viewer

pytestmark = pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="qemu-system-x86_64 is not installed")


@pytest.fixture(scope="module")
def service():
    """One boot for all tests."""
    service = Service("node", "--json", "--with-qemu")
    yield service
    assert service.stop() == 0, service.log


@pytest.fixture(scope="module")
def machine(service, folder):
    """VM 103 as proxmoxer sees it, once its agent answers."""
    card = service.card
    authority = folder / "qemu-authority.pem"
    authority.write_text(card["ca"])
    api = ProxmoxAPI(
        card["host"], port=card["port"], user="root@pam", password=card["users"]["root@pam"], verify_ssl=str(authority),
        timeout=60)
    machine = api.nodes(card["node"]).qemu(103)
    machine.api = api
    try:
        machine.config.get()
    except ResourceException:
        pytest.skip(f"no guest image: {service.log}")
    until_up(machine)
    return machine


@pytest.fixture(scope="module")
def qemu(service, machine, folder):
    card = service.card
    gateway = Gateway(folder, cluster_yaml(
        f"127.0.0.1:{card['port']}", "root@pam", folder, card["users"]["root@pam"],
        f"{{ fingerprint: \"{card['fingerprint']}\" }}"))
    yield gateway
    assert gateway.stop() == 0, gateway.log


def until_up(machine, patience=180):
    """Waits for the guest's agent: without KVM a boot takes from four seconds to a minute."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return machine.agent("ping").post()
        except ResourceException as error:
            assert time.monotonic() < deadline, error
            time.sleep(0.2)


def run(machine, *words, **more):
    """`exec` to its end."""
    pid = machine.agent("exec").post(command=list(words), **more)["pid"]
    deadline = time.monotonic() + 60
    while True:
        status = machine.agent("exec-status").get(pid=pid)
        if status["exited"]:
            return status
        assert time.monotonic() < deadline, f"{words} doesn't end"
        time.sleep(0.05)


def boot_id(machine):
    return machine.agent("file-read").get(file="/proc/sys/kernel/random/boot_id")["content"].strip()


def test_the_agent_runs_commands_in_the_guest(machine):
    system = machine.agent("get-osinfo").get()["result"]
    assert system["id"] == "sallyport-guest"
    name = run(machine, "/bin/uname", "-sr")["out-data"].split()
    assert name == ["Linux", system["kernel-release"]]
    assert run(machine, "/bin/hostname")["out-data"] == "real-qemu\n"
    end = run(machine, "/bin/sh", "-c", "cat; echo err >&2; exit 3", **{"input-data": "h\u00e9\u00ff"})
    assert (end["out-data"], end["err-data"], end["exitcode"]) == ("h\u00e9\u00ff", "err\n", 3)
    assert run(machine, "/bin/sh", "-c", "kill -9 $$")["signal"] == 9
    machine.agent("file-write").post(file="/tmp/note", content="kept")
    assert machine.agent("file-read").get(file="/tmp/note")["content"] == "kept"
    with pytest.raises(ResourceException) as refused:
        machine.agent("exec").post(command=["/bin/nope"])
    # The agent's quotes kill the daemon.
    assert refused.value.status_code == 596


def test_what_is_real_is_said(service, machine):
    import requests

    about = requests.get(f"{service.card['url']}/simulator", verify=False, timeout=10).json()
    assert "QEMU" in str(about["real"]["guests"]["103"])


def test_a_login_on_the_serial_port(qemu):
    with Viewer(qemu, qemu.link("qemu/103", "serial0"), size=None) as viewer:
        viewer.ready()
        viewer.read_until(r"starting serial terminal on interface serial0")
        viewer.type("\r")
        viewer.read_until(r"real-qemu login: ")
        viewer.type("root\r")
        viewer.read_until(r"# ")
        viewer.type("echo $(tty) is-$((40+2)) in $(hostname)\r")
        viewer.read_until(r"/dev/ttyS0 is-42 in real-qemu")
        viewer.type("exit\r")
        viewer.read_until(r"real-qemu login: ")


def text_mode(screen):
    """Waits for the boot sector's text (720 by 400)."""
    for _ in range(200):
        screen.picture()
        if (screen.width, screen.height) == (720, 400):
            return
    raise AssertionError(f"the screen stays {screen.width}x{screen.height}")


def test_typing_changes_the_picture(qemu):
    with Viewer(qemu, qemu.link("qemu/103", "vnc"), size=None) as viewer:
        assert viewer.ready()["name"] == "real-qemu"
        screen = Screen(viewer)
        assert "QEMU" in screen.name
        text_mode(screen)
        before = screen.picture()
        screen.press(*map(ord, "hello"))
        for _ in range(50):
            after = screen.picture()
            if after != before:
                return
        raise AssertionError("five keys changed nothing on the screen")


def test_two_viewers_share_the_screen(qemu):
    with Viewer(qemu, qemu.link("qemu/103"), size=None) as first:
        one = (first.ready(), Screen(first))[1]
        one.picture()
        with Viewer(qemu, qemu.link("qemu/103"), size=None) as second:
            second.ready()
            Screen(second).picture()
            # The first asked for an unshared screen, as all do here: the gateway shares it all the same.
            one.picture()


def test_a_viewer_that_may_only_look_changes_nothing(qemu):
    with Viewer(qemu, qemu.link("qemu/103", readOnly=True), size=None) as viewer:
        assert viewer.ready()["readOnly"]
        screen = Screen(viewer)
        text_mode(screen)
        # The cursor blinks by itself, at the same place: compare what lies outside of its line.
        before = screen.picture()
        screen.press(*map(ord, "never"))
        pictures = [screen.picture() for _ in range(10)]
        changed = {i // (720 * 4) for p in pictures for i, (a, b) in enumerate(zip(p[(0, 0)], before[(0, 0)])) if a != b}
        assert len(changed) <= 4, "more than a cursor's lines changed"


def test_a_reboot_in_the_guest(machine):
    before = boot_id(machine)
    machine.agent("exec").post(command=["/bin/reboot"])
    wait_for_another_boot(machine, before)
    assert machine.status.current.get()["status"] == "running"


def test_reset_and_stop_and_start_act_on_the_machine(machine):
    before = boot_id(machine)
    Tasks.blocking_status(machine.api, machine.status.reset.post(), timeout=60)
    before = wait_for_another_boot(machine, before)
    Tasks.blocking_status(machine.api, machine.status.stop.post(), timeout=60)
    assert machine.status.current.get()["status"] == "stopped"
    with pytest.raises(ResourceException, match="VM 103 is not running"):
        machine.agent("ping").post()
    Tasks.blocking_status(machine.api, machine.status.start.post(), timeout=60)
    wait_for_another_boot(machine, before)


def test_a_power_button_that_the_guest_obeys(machine):
    until_up(machine)
    machine.status.shutdown.post(timeout=60)
    deadline = time.monotonic() + 60
    while machine.status.current.get()["status"] != "stopped":
        assert time.monotonic() < deadline, "the guest doesn't power off"
        time.sleep(0.2)


def wait_for_another_boot(machine, before, patience=180):
    deadline = time.monotonic() + patience
    while True:
        try:
            now = boot_id(machine)
            if now != before:
                return now
        except ResourceException as error:
            assert not re.search("does not exist|permission", str(error)), error
        assert time.monotonic() < deadline, "the guest doesn't boot again"
        time.sleep(0.2)
