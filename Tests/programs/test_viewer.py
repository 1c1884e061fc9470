"""Python's `websockets` as a viewer: what is promised to viewers that are no browser of ours."""

import hashlib
import os
import re
import time

import pytest
from rfb import Screen
from viewer import Viewer
from websockets.exceptions import InvalidStatus

PROMPT = rb"[#$] "


def shell(gateway, target="node/pve1", **more):
    viewer = Viewer(gateway, gateway.link(target, "terminal"), **more)
    viewer.ready()
    viewer.read_until(PROMPT)
    return viewer


def test_a_shell_answers(gateway):
    with shell(gateway) as viewer:
        ready = viewer.of("ready")
        assert (ready["target"], ready["node"], ready["console"]) == ("node/pve1", "pve1", "terminal")
        viewer.type("echo $((6 * 7))-ünï-日本\r")
        viewer.read_until("[\r\n]42-ünï-日本\r\n")


@pytest.mark.parametrize("target, console", [
    ("node/pve1", "terminal"), ("lxc/200", "terminal"), ("qemu/100", "serial0"), ("qemu/100", "terminal"), ("ct200", None)])
def test_every_terminal_opens(gateway, target, console):
    with Viewer(gateway, gateway.link(target, console)) as viewer:
        viewer.ready()
        viewer.type("\r")
        viewer.read_until(PROMPT)
        viewer.type("echo o$((1))k\r")
        viewer.read_until("[\r\n]o1k")


@pytest.mark.parametrize("target", ["qemu/100", "lxc/200", "node/pve1"])
def test_every_screen_opens(gateway, target):
    with Viewer(gateway, gateway.link(target, "vnc"), size=None) as viewer:
        viewer.ready()
        screen = Screen(viewer)
        assert screen.width > 0 and screen.picture()


def test_keys_change_the_screen(gateway):
    with Viewer(gateway, gateway.link("qemu/100"), size=None) as viewer:
        assert viewer.ready()["console"] == "vnc"
        screen = Screen(viewer)
        screen.picture()
        screen.press(ord("h"), ord("i"))
        assert screen.picture(incremental=True)


def test_the_first_size_and_every_later_one_arrive(gateway):
    with shell(gateway, size=(101, 33)) as viewer:
        viewer.type("stty size\r")
        viewer.read_until("33 101")
        viewer.say({"type": "resize", "columns": 120, "rows": 40})
        time.sleep(0.5)
        viewer.type("stty size\r")
        viewer.read_until("40 120")


def test_a_paste_of_a_mebibyte_arrives_whole(gateway):
    paste = ("äöü 日本語 🙂 " * 40_000).encode()[: 1 << 20]
    with shell(gateway) as viewer:
        viewer.type("stty raw -echo; echo go; head -c %d | sha256sum; stty sane\r" % len(paste))
        viewer.read_until(rb"[\r\n]go\r?\n")
        viewer.type(paste)
        got = viewer.read_until(rb"([0-9a-f]{64})  -", patience=60).group(1).decode()
        assert got == hashlib.sha256(paste).hexdigest()


def test_bytes_of_every_value_come_back(gateway):
    every = bytes(range(256)) * 64
    with shell(gateway) as viewer:
        viewer.type("stty raw -echo; echo go; head -c %d; stty sane\r" % len(every))
        viewer.read_until(rb"[\r\n]go\r?\n")
        viewer.data = b""
        viewer.type(every)
        assert viewer.take(len(every)) == every


def test_much_output_arrives_whole(gateway):
    size = 16 << 20
    with shell(gateway) as viewer:
        viewer.type("stty raw -echo; echo g''o; head -c %d /dev/zero | tr '\\0' x; echo; echo e''nd\r" % size)
        viewer.read_until(rb"go[\r\n]+")
        viewer.wait(lambda: viewer.data.endswith(b"end\n") or b"end\n" in viewer.data[-200:], "end", patience=90)
        assert viewer.data.count(b"x") == size


def test_acknowledgements_are_what_keeps_output_coming(gateway):
    with shell(gateway, acks=True) as viewer:
        viewer.type("head -c 4000000 /dev/zero | tr '\\0' y\r")
        time.sleep(1.5)
        while viewer.pump(1):
            pass
        held = viewer.data.count(b"y")
        assert 0 < held < 3_000_000, "nothing was acknowledged, and everything came"
        # The count is of all bytes since `ready`; the greeting has been read away already.
        total = held
        while viewer.data.count(b"y") < 4_000_000:
            viewer.say({"type": "ack", "bytes": total})
            assert viewer.pump(10), viewer.data.count(b"y")
            total = viewer.data.count(b"y")


def test_ctrl_c_stops_endless_output(gateway):
    with shell(gateway) as viewer:
        viewer.type("yes\r")
        viewer.read_until(rb"y\r\ny\r\n")
        begin = time.monotonic()
        viewer.type("\x03")
        viewer.read_until(rb"\^C[^$#]*[#$] ", patience=20)
        assert time.monotonic() - begin < 10


def test_a_ping_has_its_pong(gateway):
    with shell(gateway) as viewer:
        viewer.say({"type": "ping", "id": 77})
        viewer.wait(lambda: viewer.of("pong"), "pong")
        assert viewer.of("pong") == {"type": "pong", "id": 77}


def test_a_fragmented_message_is_one_input(gateway):
    with shell(gateway) as viewer:
        viewer.socket.send([b"echo fr", b"ag", b"ment\r"])
        viewer.read_until("[\r\n]fragment")


def test_read_only_input_goes_nowhere(gateway):
    link = gateway.link("lxc/200", "terminal", readOnly=True)
    marker = f"never-{os.getpid()}"
    with Viewer(gateway, link) as viewer:
        assert viewer.ready()["readOnly"] is True
        viewer.type(f"echo {marker}\r")
        while viewer.pump(1.5):
            pass
        assert marker.encode() not in viewer.data


# Links


def test_a_link_is_good_once(gateway):
    link = gateway.link("node/pve1")
    with Viewer(gateway, link) as first:
        first.ready()
        with Viewer(gateway, link) as second:
            assert second.end()[0] == 4701
            assert second.of("ended")["kind"] == "link-used"
        first.type("echo still\r")
        first.read_until("still")


def test_a_link_expires(gateway):
    link = gateway.link("node/pve1", ttl=1)
    time.sleep(1.3)
    with Viewer(gateway, link) as viewer:
        code, reason = viewer.end()
        assert code == 4702 and reason.startswith("link-expired")


def test_a_forged_link_opens_nothing(gateway):
    with Viewer(gateway, token="A" * 43) as viewer:
        assert viewer.end()[0] == 4700
        assert viewer.of("ended")["remedy"]


def test_a_session_can_be_ended_through_the_api(gateway):
    link = gateway.link("node/pve1")
    with Viewer(gateway, link) as viewer:
        viewer.ready()
        assert gateway.call("DELETE", f"/v1/consoles/{link['id']}")[0] == 204
        assert viewer.end()[0] == 4604
    assert gateway.ended(link["id"])["ending"]["kind"] == "closed-by-operator"


def test_the_api_counts_and_says_how_it_ended(gateway):
    link = gateway.link("node/pve1")
    with Viewer(gateway, link) as viewer:
        viewer.ready()
        viewer.read_until(PROMPT)
        assert gateway.session(link["id"])["state"] == "open"
    session = gateway.ended(link["id"])
    assert session["ending"]["kind"] == "viewer-left" and session["bytesToViewer"] > 0


# What is refused


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
def test_a_page_of_another_origin_gets_no_websocket(gateway, origin):
    with pytest.raises(InvalidStatus) as refusal:
        Viewer(gateway, opening=False, origin=origin)
    assert refusal.value.response.status_code == 403
    assert b"origin" in refusal.value.response.body.lower()


def test_an_unknown_subprotocol_gets_no_websocket(gateway):
    with pytest.raises(InvalidStatus) as refusal:
        Viewer(gateway, opening=False, subprotocols=("something.else",))
    assert 400 <= refusal.value.response.status_code < 500


@pytest.mark.parametrize("first", [
    "no json", "[]", "{}", '{"type":"open"}', '{"type":"open","token":5}', '{"type":"resize","columns":1,"rows":1}',
    '{"type":"open","token":"x","surprise":1}', '{"type":"open","token":"' + "x" * 5000 + '"}', b"bytes first"])
def test_a_bad_first_message_is_a_violation(gateway, first):
    with Viewer(gateway, opening=False) as viewer:
        viewer.socket.send(first)
        code, reason = viewer.end()
        assert code == 4501 and re.match(r"viewer-violation: .", reason)


@pytest.mark.parametrize("later", [
    '{"type":"open","token":"again"}', '{"type":"ack","bytes":99999999999}', '{"type":"resize","columns":0,"rows":5}',
    "x" * 5000])
def test_a_bad_later_message_is_a_violation(gateway, later):
    with shell(gateway, acks=True) as viewer:
        viewer.socket.send(later)
        assert viewer.end()[0] == 4501


def test_an_oversize_message_does_no_harm(gateway):
    """64 MiB at once, into a program that takes them: none of it is kept in memory at a time."""
    size = 64 << 20
    with shell(gateway) as viewer:
        viewer.type("stty raw -echo; echo go; head -c %d | wc -c; stty sane\r" % size)
        viewer.read_until(rb"[\r\n]go\r?\n")
        viewer.type(b"z" * size)
        viewer.read_until(str(size), patience=100)


@pytest.mark.parametrize("target, console, kind, code", [
    ("qemu/101", "terminal", "no-serial-port", 4103), ("qemu/100", "serial2", "no-serial-port", 4103),
    ("qemu/102", "vnc", "guest-not-running", 4100), ("lxc/201", "terminal", "guest-not-running", 4100)])
def test_consoles_that_cannot_open_say_why(gateway, target, console, kind, code):
    link = gateway.link(target, console)
    with Viewer(gateway, link) as viewer:
        assert viewer.end()[0] == code
        ended = viewer.of("ended")
        assert ended["kind"] == kind and ended["remedy"]
    assert gateway.ended(link["id"])["ending"]["kind"] == kind


@pytest.mark.parametrize("body, field", [
    ({"target": "qemu/99999"}, "target"), ({"target": "what/ever"}, "target"), ({}, "target"),
    ({"target": "qemu/100", "console": "spice"}, "console"), ({"target": "qemu/100", "ttl": -1}, "ttl"),
    ({"target": "qemu/100", "colour": "red"}, "colour"), ({"target": 7}, "target")])
def test_bad_requests_name_the_field(gateway, body, field):
    status, problem = gateway.call("POST", "/v1/consoles", body)
    assert 400 <= status < 500 and problem["field"] == field and problem["detail"]


def test_the_log_holds_no_secret(gateway, node):
    link = gateway.link("node/pve1")
    with Viewer(gateway, link) as viewer:
        viewer.ready()
    gateway.ended(link["id"])
    assert "console ended" in gateway.log
    for secret in (link["token"], gateway.key, node["users"]["root@pam"], "PVEVNC:", "PVE:root@pam:"):
        assert secret not in gateway.log
