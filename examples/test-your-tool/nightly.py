"""The tool under test: stops the virtual machines that have a tag, and waits for each."""

import sys
import time

from proxmoxer.core import ResourceException


def stop_tagged(pve, tag, patience=60):
    """Returns {vmid: how its task ended}. A guest that somebody else stopped meanwhile is no error."""
    ended = {}
    for guest in pve.cluster.resources.get(type="vm"):
        if tag not in guest.get("tags", "").split(";") or guest["type"] != "qemu" or guest["status"] != "running":
            continue
        upid = pve.nodes(guest["node"]).qemu(guest["vmid"]).status.stop.post()
        ended[guest["vmid"]] = wait(pve, guest["node"], upid, patience)
    return ended


def wait(pve, node, upid, patience):
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            status = pve.nodes(node).tasks(upid).status.get()
        except ResourceException as error:
            if error.status_code < 595:
                raise
            status = {"status": "unknown"}  # A read may be asked again; the stop itself is not.
        if status["status"] == "stopped":
            return status["exitstatus"]
        time.sleep(0.1)
    return "still running"


if __name__ == "__main__":
    sys.exit("import me: stop_tagged(pve, tag)")
