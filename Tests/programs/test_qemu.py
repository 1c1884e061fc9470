"""A real QEMU's own VNC server behind the embedded node, password and all."""

import shutil

import pytest
from conftest import Gateway, Service, cluster_yaml
from rfb import Screen
from viewer import Viewer

pytestmark = pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="qemu-system-x86_64 is not installed")


@pytest.fixture(scope="module")
def qemu(folder):
    service = Service("node", "--json", "--with-qemu")
    card = service.card
    gateway = Gateway(folder, cluster_yaml(
        f"127.0.0.1:{card['port']}", "root@pam", folder, card["users"]["root@pam"],
        f"{{ fingerprint: \"{card['fingerprint']}\" }}"))
    yield gateway
    assert gateway.stop() == 0, gateway.log
    assert service.stop() == 0, service.log


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
