"""`proxmoxer`, the usual Python client of Proxmox VE, against the embedded node."""

import pytest
import requests
from proxmoxer import AuthenticationError, ProxmoxAPI, ResourceException


@pytest.fixture(scope="module")
def authority(node, folder):
    """The node's own authority as a file: certificates are verified, name and all."""
    file = folder / "authority.pem"
    file.write_text(node["ca"])
    return str(file)


def by_token(node, authority):
    user, name = node["token"]["id"].split("!")
    return ProxmoxAPI(
        node["host"], port=node["port"], user=user, token_name=name, token_value=node["token"]["secret"],
        verify_ssl=authority, timeout=30)


def by_password(node, authority, user="root@pam"):
    return ProxmoxAPI(
        node["host"], port=node["port"], user=user, password=node["users"][user], verify_ssl=authority, timeout=30)


@pytest.mark.parametrize("login", [by_token, by_password])
def test_login_list_and_status(node, authority, login):
    proxmox = login(node, authority)
    assert proxmox.version.get()["version"].startswith("9.2")
    assert [n["node"] for n in proxmox.nodes.get()] == ["pve1"]
    assert {vm["vmid"] for vm in proxmox.nodes("pve1").qemu.get()} >= {100, 101, 102}
    assert {int(ct["vmid"]) for ct in proxmox.nodes("pve1").lxc.get()} >= {200, 201}
    assert proxmox.nodes("pve1").qemu(100).status.current.get()["status"] == "running"
    resources = proxmox.cluster.resources.get(type="vm")
    assert {r["name"] for r in resources} >= {"web1", "db1", "ct200"}


def test_consoles_are_minted(node, authority):
    answer = by_password(node, authority).nodes("pve1").qemu(100).vncproxy.post(websocket=1)
    assert 5900 <= int(answer["port"]) <= 5999 and "PVEVNC:" in answer["ticket"] and answer["upid"].startswith("UPID:pve1:")


def test_a_task_is_followed_to_its_end(node, authority):
    proxmox = by_password(node, authority)
    upid = proxmox.nodes("pve1").qemu(102).status.start.post()
    from proxmoxer.tools import Tasks
    assert Tasks.blocking_status(proxmox, upid, timeout=30)["exitstatus"] == "OK"
    upid = proxmox.nodes("pve1").qemu(102).status.stop.post()
    assert Tasks.blocking_status(proxmox, upid, timeout=30)["exitstatus"] == "OK"


def test_a_wrong_password_is_refused(node, authority):
    with pytest.raises(AuthenticationError):
        ProxmoxAPI(node["host"], port=node["port"], user="root@pam", password="wrong", verify_ssl=authority)


def test_who_may_only_look_opens_no_console(node, authority):
    with pytest.raises(ResourceException) as refusal:
        by_password(node, authority, "auditor@pve").nodes("pve1").qemu(100).vncproxy.post(websocket=1)
    assert refusal.value.status_code == 403


def test_a_missing_guest_is_a_500(node, authority):
    with pytest.raises(ResourceException) as refusal:
        by_token(node, authority).nodes("pve1").qemu(999).status.current.get()
    assert refusal.value.status_code == 500 and "999" in str(refusal.value)


def test_an_unknown_parameter_is_named(node, authority):
    with pytest.raises(ResourceException) as refusal:
        by_token(node, authority).nodes("pve1").qemu(100).vncproxy.post(websocket=1, colour="red")
    assert refusal.value.status_code == 400 and "colour" in str(refusal.value)


def test_another_authority_is_not_trusted(node):
    with pytest.raises(requests.exceptions.SSLError):
        ProxmoxAPI(node["host"], port=node["port"], user="root@pam", password="x", verify_ssl=True)
