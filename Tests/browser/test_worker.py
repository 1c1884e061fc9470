"""A console whose worker on the node is killed: the page says so, with the end of the worker's log."""

import json
import os
import ssl
import urllib.parse
import urllib.request

import pytest

pytestmark = pytest.mark.skipif(not os.environ.get("SALLYPORT_NODE"), reason="needs the embedded node's own API")


class Node:
    """The embedded node's API, as root@pam. Its certificate is made at its start, so it is not verified here."""

    def __init__(self):
        with open(os.environ["SALLYPORT_NODE"]) as file:
            card = json.loads(file.readline())["node"]
        self.base = f"https://127.0.0.1:{card['port']}/api2/json"
        self.context = ssl._create_unverified_context()
        self.headers = {}
        login = urllib.parse.urlencode({"username": "root@pam", "password": card["users"]["root@pam"]}).encode()
        answer = self.call("POST", "/access/ticket", login)
        self.headers = {"Cookie": f"PVEAuthCookie={answer['ticket']}", "CSRFPreventionToken": answer["CSRFPreventionToken"]}

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, data=body, headers=self.headers)
        with urllib.request.urlopen(request, context=self.context, timeout=20) as response:
            return json.load(response)["data"]


def test_a_killed_worker(page):
    node = Node()
    before = {task["upid"] for task in node.call("GET", "/nodes/pve1/tasks?source=active")}
    page.open("lxc/200", "terminal")
    running = [task for task in node.call("GET", "/nodes/pve1/tasks?source=active") if task["upid"] not in before]
    assert len(running) == 1, running
    node.call("DELETE", "/nodes/pve1/tasks/" + urllib.parse.quote(running[0]["upid"], safe=""))
    panel = page.ended("worker-exited")
    assert panel.get_attribute("data-hop") == "worker"
    page.shot("ended-killed-worker-dark")
