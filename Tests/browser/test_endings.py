"""Why a console ended: every end has its panel, and no end is a bare 1006."""

import pytest
from selenium.webdriver.common.by import By


def hop(page, name):
    return page.find(f"hop-{name}").get_attribute("data-state")


def test_a_stopped_guest(page):
    page.open("qemu/102", "vnc", wait="ended")
    panel = page.ended("guest-not-running")
    assert panel.get_attribute("data-hop") == "guest"
    assert hop(page, "gateway") == "passed" and hop(page, "api") == "passed" and hop(page, "guest") == "warn"
    assert page.find("ended-remedy").text
    assert "4100" in page.find("ended-kind").text
    page.shot("ended-not-running-dark")
    page.colours("light")
    page.shot("ended-not-running-light")


def test_a_guest_without_a_serial_port(page):
    page.open("qemu/101", "serial0", wait="ended")
    page.ended("no-serial-port")
    page.shot("ended-no-serial-dark")


def test_a_used_link(page, gateway):
    link = page.open("node/pve1", "terminal", key=False)
    page.driver.get("about:blank")
    page.driver.get(f"{gateway.base}console.html#t={link['token']}")
    page.ended("link-used")
    assert not page.all("ended-reconnect"), "a page without a key can't make a link"
    page.shot("ended-link-used-dark")


def test_a_forged_link(page, gateway):
    page.driver.get(f"{gateway.base}console.html#t=bm90LWEtcmVhbC10b2tlbi1idXQtbG9uZy1lbm91Z2gtdG8tYmUtb25l")
    page.ended("link-unknown")


def test_a_page_without_a_link_and_a_reloaded_one(page, gateway):
    page.driver.get(f"{gateway.base}console.html")
    page.ended("link-missing")
    page.open("node/pve1", "terminal", key=False)
    page.driver.refresh()
    page.ended("link-spent")


def test_an_operator_closes_a_console(page, gateway):
    link = page.open("node/pve1", "terminal")
    page.command("echo here-$((5+5))")
    page.expect("here-10")
    gateway.call("DELETE", f"v1/consoles/{link['id']}")
    page.ended("closed-by-operator")
    page.shot("ended-closed-by-operator-dark")
    page.click("ended-hide")
    assert "here-10" in page.text()
    page.click("reconnect")
    page.wait("another session", lambda: page.js("return sallyport.phase") == "open")
    page.command("echo again-$((6+6))")
    page.expect("again-12")


def test_a_screen_that_is_closed_keeps_its_last_picture(page, gateway):
    link = page.open("qemu/100", "vnc")
    page.wait("a picture", lambda: page.js("return document.querySelector('#console canvas').width") > 100)
    gateway.call("DELETE", f"v1/consoles/{link['id']}")
    page.ended("closed-by-operator")
    assert page.driver.find_elements(By.CSS_SELECTOR, "canvas.still")
    page.shot("ended-screen-dark")
    page.click("ended-reconnect")
    page.wait("another session", lambda: page.js("return sallyport.phase") == "open")


def test_a_shell_that_is_left(page):
    page.open("node/pve1", "terminal")
    page.command("exit")
    # Proxmox VE 9 keeps the connection open and says nothing; the page then says what it sees.
    page.wait("the end or the hint", lambda: page.all("ended") or page.all("shell-left"))
    page.shot("ended-exit-dark")
    if page.all("shell-left"):
        page.find("shell-left").find_element(By.CSS_SELECTOR, ".button:not(.square)").click()
        page.wait("another session", lambda: page.js("return sallyport.phase") == "open" and "exit" not in page.text())
        page.command("echo anew-$((8+8))")
        page.expect("anew-16")
    else:
        assert page.ended().get_attribute("data-hop") in ("worker", "guest")


def test_the_person_closes_the_console(page):
    page.open("node/pve1", "terminal")
    page.click("disconnect")
    page.ended("viewer-left")


def test_a_lost_gateway_is_named(page, mock):
    page.open("qemu/666", "terminal", wait="ended")
    page.ended("gateway-lost")
    assert "up" in page.find("ended-sentence").text
    assert page.all("ended-reconnect")
    page.shot("ended-gateway-lost-dark")


def test_a_guest_that_does_not_exist(page, gateway):
    page.give_key()
    page.driver.get(f"{gateway.base}console.html#open=vm/none&console=vnc")
    page.ended()
    assert page.all("ended-reconnect")


def test_a_tab_without_a_key_asks_for_it(page, gateway):
    page.driver.get(f"{gateway.base}console.html#open=node/pve1&console=terminal")
    page.ended("link-missing")
    page.shot("ended-key-needed-dark")
    page.find("api-key").send_keys(gateway.key, "\n")
    page.wait("the console to open", lambda: page.js("return sallyport.phase") == "open")


def test_the_stage_is_shown_meanwhile(page, mock):
    page.give_key()
    page.driver.get(f"{mock.base}console.html#open=qemu/667&console=vnc&name=slow-one")
    page.wait("the dialling stage", lambda: page.find("stage").get_attribute("data-stage") == "dialling")
    assert hop(page, "api") == "passed" and hop(page, "worker") == "busy" and hop(page, "guest") == "beyond"
    page.shot("stage-dark")
    page.ended("worker-timeout")
    assert hop(page, "worker") == "bad"
    page.shot("ended-worker-timeout-dark")


@pytest.mark.parametrize("kind", ["idle", "tls-untrusted", "permission-denied", "guest-stopped"])
def test_other_kinds(page, mock, kind):
    link = page.open("node/pve1", "terminal")
    mock.call("POST", "mock/end", {"id": link["id"], "kind": kind, "sentence": f"It was {kind}.", "remedy": "Do this.", "details": [f"line {i}" for i in range(8)]})
    page.ended(kind)
    assert page.find("ended-title").text


def test_a_warning_before_the_end_is_seen(page, mock):
    link = page.open("node/pve1", "terminal")
    mock.call("POST", "mock/notice", {"id": link["id"], "kind": "idle-warning", "seconds": 60})
    assert "1 min" in page.see("notice").text
    page.shot("notice-dark")


def test_the_panel_fits_a_phone(page):
    page.window(390, 844, phone=True)
    page.colours("light")
    page.open("qemu/102", "vnc", wait="ended")
    page.ended("guest-not-running")
    assert page.js("return document.documentElement.scrollWidth") <= 390
    page.shot("ended-phone-light")


def test_a_frame_tells_its_portal(page, mock):
    link = mock.link("node/pve1", "terminal")
    page.driver.get(f"{mock.base}mock/portal#t={link['token']}&embed=1")
    page.wait("the open event", lambda: page.js("return window.news.map((n) => n.event)") == ["open"])
    assert page.js("return window.news[0].target") == "node/pve1"
    page.shot("embedded-dark")
    page.driver.switch_to.frame(0)
    assert page.find("home").is_displayed() is False
    page.driver.switch_to.default_content()
    mock.call("DELETE", f"v1/consoles/{link['id']}")
    page.wait("the ended event", lambda: page.js("return window.news.length") == 2)
    ended = page.js("return window.news[1]")
    assert ended["type"] == "sallyport" and ended["kind"] == "closed-by-operator" and ended["hop"] == "gateway"
    assert link["token"] not in str(page.js("return window.news"))
