"""A Proxmox VE node for the tests of a tool of yours: one process, ready in a fraction of a second.

    pip install pytest proxmoxer requests
    SALLYPORT=/path/to/sallyport pytest
"""

import json
import os
import ssl
import subprocess
import urllib.request

import proxmoxer
import pytest


class Node:
    """`sallyport node`, and its /simulator interface."""

    def __init__(self, *options):
        self.process = subprocess.Popen(
            [os.environ.get("SALLYPORT", "sallyport"), "node", "--json", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, "the node did not start; it says why on standard error"
        self.card = json.loads(line)
        self.token_id, self.token_secret = self.card["token"]["id"], self.card["token"]["secret"]
        self.tls = ssl.create_default_context(cadata=self.card["ca"])

    def client(self):
        """An unmodified proxmoxer. (For a verified connection write card["ca"] to a file and pass its name.)"""
        user, name = self.token_id.split("!")
        return proxmoxer.ProxmoxAPI(
            "127.0.0.1", port=self.card["port"], user=user, token_name=name, token_value=self.token_secret,
            verify_ssl=False)

    def root(self):
        """root@pam by password: a few things are root's alone, and a token of root's isn't root."""
        return proxmoxer.ProxmoxAPI(
            "127.0.0.1", port=self.card["port"], user="root@pam", password=self.card["users"]["root@pam"], verify_ssl=False)

    def simulator(self, method, path="", body=None):
        """A call of the node's own interface: faults, journal, clock, reset."""
        request = urllib.request.Request(
            f"{self.card['url']}/simulator{path}", method=method,
            data=None if body is None else json.dumps(body).encode(), headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, context=self.tls) as answer:
            return json.load(answer)

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="session")
def node():
    """One node for all tests …"""
    running = Node()
    yield running
    running.stop()


@pytest.fixture
def pve(node):
    """… put back to its start before each."""
    node.simulator("POST", "/reset")
    return node.client()
