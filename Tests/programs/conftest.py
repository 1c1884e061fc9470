"""The program itself, started as people start it: an embedded node, and a gateway in front of it.

SALLYPORT names the program; without it the newer one of .build/debug and .build/release is taken.
"""

import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


def find_program():
    named = os.environ.get("SALLYPORT")
    if named:
        return str(pathlib.Path(named).resolve())
    built = [p for p in (ROOT / ".build/debug/sallyport", ROOT / ".build/release/sallyport") if p.exists()]
    if not built:
        pytest.exit("There is no sallyport to test. Run `make build` or `swift build` first.", returncode=2)
    return str(max(built, key=lambda p: p.stat().st_mtime))


PROGRAM = find_program()
HOME = tempfile.TemporaryDirectory(prefix="sallyport-home-")


def clean_environment(**more):
    """The environment without what would steer the program, and with what is given."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SALLYPORT")}
    # A home of its own: a gateway keeps its jobs there, and shells their history.
    kept["HOME"] = HOME.name
    return {**kept, **{k: str(v) for k, v in more.items()}}


class Service:
    """A process that prints one line of JSON when it is ready. Its standard error is kept."""

    def __init__(self, *arguments, **environment):
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=clean_environment(**environment), cwd=ROOT, text=True)
        self.errors = []
        threading.Thread(target=self._collect, daemon=True).start()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(10)
            time.sleep(0.2)
            raise AssertionError(f"{arguments} ended with {self.process.returncode}: {self.log}")
        self.card = json.loads(line)

    def _collect(self):
        for line in self.process.stderr:
            self.errors.append(line)

    @property
    def log(self):
        return "".join(self.errors)

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError("the program did not end when it was told to") from None
        return self.process.returncode


class Gateway(Service):
    """`sallyport serve` and its API."""

    def __init__(self, folder, cluster, **environment):
        self.key = secrets.token_urlsafe(32)
        self.config = folder / f"sallyport-{secrets.token_hex(4)}.yaml"
        self.config.write_text(cluster)
        super().__init__(
            "serve", "--config", str(self.config), "--listen", "127.0.0.1:0", "--json",
            SALLYPORT_API_KEY=self.key, **environment)
        self.url = self.card["url"]

    def call(self, method, path, body=None, key=None):
        """(status, answer) of a call of the API."""
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                text = response.read()
                return response.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text else None

    def link(self, target, console=None, **more):
        body = {"target": target, **more}
        if console:
            body["console"] = console
        status, answer = self.call("POST", "/v1/consoles", body)
        assert status == 201, answer
        return answer

    def session(self, identity):
        return self.call("GET", f"/v1/consoles/{identity}")[1]

    def ended(self, identity, patience=15):
        """The session once it has ended."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            session = self.session(identity)
            if session["state"] == "ended":
                return session
            time.sleep(0.05)
        raise AssertionError(f"the session has not ended: {session}")


def cluster_yaml(host, user, folder, password, trust):
    """A configuration with one cluster, the password in a file beside it."""
    file = folder / f"password-{secrets.token_hex(4)}"
    file.write_text(password + "\n")
    file.chmod(0o600)
    return (
        "clusters:\n"
        "  - name: test\n"
        f"    hosts: [\"{host}\"]\n"
        f"    user: {{ name: \"{user}\", passwordFile: \"{file}\" }}\n"
        f"    tls: {trust}\n")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sallyport")


@pytest.fixture(scope="session")
def node():
    """An embedded node with random passwords."""
    # One of three endings of PVE 9 loses the last output; that one has tests of its own.
    service = Service("node", "--json", "--fault", "terminal-ending=staysOpen")
    yield service.card
    assert service.stop() == 0, service.log


@pytest.fixture(scope="session")
def gateway(node, folder):
    """A gateway in front of the node, as root@pam."""
    service = Gateway(folder, cluster_yaml(
        f"127.0.0.1:{node['port']}", "root@pam", folder, node["users"]["root@pam"],
        f"{{ fingerprint: \"{node['fingerprint']}\" }}"))
    yield service
    assert service.stop() == 0, service.log


def direct(node):
    """What leads the command line straight to the node."""
    return {
        "SALLYPORT_PVE_HOST": f"127.0.0.1:{node['port']}", "SALLYPORT_PVE_FINGERPRINT": node["fingerprint"],
        "SALLYPORT_PVE_USER": "root@pam", "SALLYPORT_PVE_PASSWORD": node["users"]["root@pam"]}


@pytest.fixture(params=["directly", "through the gateway"])
def way(request, node, gateway):
    """The environment of a command, by either way."""
    if request.param == "directly":
        return clean_environment(**direct(node))
    return clean_environment(SALLYPORT_GATEWAY=gateway.url, SALLYPORT_API_KEY=gateway.key)
