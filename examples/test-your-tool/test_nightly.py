"""What the tool does when all is well, and when it isn't."""

import pytest
from nightly import stop_tagged
from proxmoxer.core import ResourceException


def running(pve):
    return {g["vmid"] for g in pve.cluster.resources.get(type="vm") if g["status"] == "running"}


def test_it_stops_what_has_the_tag_and_nothing_else(pve):
    before = running(pve)
    assert stop_tagged(pve, "web") == {100: "OK"}
    assert running(pve) == before - {100}


def test_a_task_that_fails_is_reported(node, pve):
    node.root().nodes("pve1").qemu(100).config.put(lock="backup")
    assert stop_tagged(pve, "web") == {100: "VM is locked (backup)"}


def test_a_status_that_fails_once_is_asked_again_and_the_stop_is_sent_once(node, pve):
    node.simulator("POST", "/faults", {
        "status": 596, "message": "Broken pipe", "method": "GET", "path": "/nodes/*/tasks/*", "times": 2})
    assert stop_tagged(pve, "web") == {100: "OK"}
    asked = node.simulator("GET", "/journal?method=POST&path=*/status/stop")["entries"]
    assert len(asked) == 1


def test_a_stop_that_nobody_may_do_is_an_error(node):
    node.simulator("POST", "/reset")
    node.simulator("POST", "/faults", {
        "status": 403, "message": "Permission check failed (/vms/100, VM.PowerMgmt)", "path": "*/status/stop"})
    with pytest.raises(ResourceException, match="VM.PowerMgmt"):
        stop_tagged(node.client(), "web")
