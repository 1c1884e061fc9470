"""A real QEMU's screen in the browser: noVNC, the gateway, the embedded node, QEMU's own VNC server."""

import os

import pytest
from test_screen import canvas, changed, quiet

pytestmark = pytest.mark.skipif(not os.environ.get("SALLYPORT_QEMU"), reason="the node was started without QEMU")


def test_a_real_machine_is_seen_and_typed_into(page):
    if page.gateway.mock:
        pytest.skip("the mock has no QEMU")
    page.open("qemu/103", "vnc")
    # The boot sector's text mode.
    page.wait("QEMU's text screen", lambda: page.js("const c = document.querySelector('#console canvas'); return [c.width, c.height]") == [720, 400])
    before = quiet(page)
    canvas(page).click()
    page.keys("hello from a browser")
    changed(page, before, "QEMU's screen to change after typing")
    page.shot("screen-qemu-dark")
