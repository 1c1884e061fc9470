"""The simulated nodes that are compared: how each is started and asked."""

import json
import os
import shutil
import socket
import ssl
import time
import urllib.parse

from .processes import Failure, free_port, start, stop, tail, tree

HOST = "127.0.0.1"
PASSWORD = "bench-password"
PATIENCE = 30


class Node:
    """One of them: `launch` starts a fresh process."""

    name = label = ""
    tls = True
    lists_guests = True

    def __init__(self, programs, directory):
        self.programs, self.directory = programs, directory
        self.process, self.port = None, 0

    def command(self, guests):
        """The program with its arguments, and its environment."""
        raise NotImplementedError

    def launch(self, guests=0):
        """Starts it; returns the seconds from the start to the first answered request."""
        self.stop()
        self.port = free_port()
        command, environment = self.command(guests)
        log = os.path.join(self.directory, f"{self.name}.log")
        began = time.perf_counter()
        self.process = start(command, log, env={**os.environ, **environment})
        deadline = began + PATIENCE
        while time.perf_counter() < deadline:
            if self.process.poll() is not None:
                raise Failure(f"{self.name} ended at its start: {tail(log)}")
            try:
                if self.ask("GET", "/api2/json/access/domains")[0] > 0:
                    return time.perf_counter() - began
            except OSError:
                time.sleep(0.001)
        raise Failure(f"{self.name} does not answer: {tail(log)}")

    def stop(self):
        if self.process:
            stop(self.process)
            self.process = None

    def ask(self, method, path, body="", headers=""):
        """One request on a connection of its own: the status and the body."""
        with socket.create_connection((HOST, self.port), PATIENCE) as plain:
            connection = CONTEXT.wrap_socket(plain) if self.tls else plain
            text = (
                f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{headers}"
                f"Content-Length: {len(body)}\r\n\r\n{body}")
            if not body:
                text = text.replace("Content-Length: 0\r\n", "")
            connection.sendall(text.encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            if self.tls:
                connection.close()
        if not answer:
            raise ConnectionError("no answer")
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), rest.decode(errors="replace")

    def credential(self):
        """The header line of a login by password, as most clients have it."""
        body = urllib.parse.urlencode({"username": "root@pam", "password": PASSWORD})
        status, answer = self.ask(
            "POST", "/api2/json/access/ticket", body,
            "Content-Type: application/x-www-form-urlencoded\r\n")
        if status != 200:
            raise Failure(f"{self.name} refuses the login with {status}")
        ticket = json.loads(answer)["data"]["ticket"]
        return f"Cookie: PVEAuthCookie={urllib.parse.quote(ticket, safe=self.unquoted)}\r\n"

    # What stays as it is in the cookie; fakepve, unlike PVE, does not decode it.
    unquoted = ""

    def request(self, path):
        """A file with a request that may be repeated."""
        text = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{self.port}\r\n{self.credential()}\r\n"
        name = os.path.join(self.directory, f"{self.name}.request")
        with open(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        return name

    def resident_mib(self):
        """The resident memory of the processes."""
        total = 0
        for pid in tree(self.process.pid):
            with open(f"/proc/{pid}/status") as file:
                for line in file:
                    if line.startswith("VmRSS:"):
                        total += int(line.split()[1])
        return total / 1024


class Sallyport(Node):
    name, label = "sallyport", "sallyport node"

    def command(self, guests):
        command = [self.programs["sallyport"], "node", "--json", "--port", str(self.port)]
        if guests:
            command += ["--seed", "1", "--guests", str(guests)]
        return command, {"SALLYPORT_NODE_PASSWORD": PASSWORD}


class FakePVE(Node):
    name, label = "fakepve", "fakepve 0.5.0"
    unquoted = "!:=+/@"

    def command(self, guests):
        rows = [
            {"vmid": 100 + i, "name": f"guest{i}", "status": "running" if i % 2 else "stopped",
             "config": {"memory": 512, "cores": 1}} for i in range(guests or 5)]
        file = os.path.join(self.directory, "fakepve-guests.json")
        with open(file, "w") as out:
            json.dump({"guests": rows}, out)
        certificate, key = self.programs["certificate"]
        return [
            os.path.join(self.programs["fakepve"], "python"), "-u", "-m", "fakepve", file,
            "--host", HOST, "--port", str(self.port), "--time-scale", "0", "--cert", certificate,
            "--key", key], {"PVE_PASS": PASSWORD}


class SDKMock(Node):
    """It has no TLS, no login and lists of one guest."""

    name, label = "sdk-mock", "proxmox-sdk 0.0.15 mock, no TLS"
    tls = lists_guests = False

    def command(self, guests):
        state = os.path.join(self.directory, "sdk-state")
        shutil.rmtree(state, ignore_errors=True)
        os.makedirs(state)
        return [
            os.path.join(self.programs["sdk-mock"], "uvicorn"), "proxmox_sdk.main:app", "--host",
            HOST, "--port", str(self.port), "--log-level", "warning", "--no-access-log",
        ], {"PROXMOX_API_MODE": "mock", "PROXMOX_MOCK_STATE_PATH": os.path.join(state, "state.db")}

    def credential(self):
        return ""


def _context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


CONTEXT = _context()
KINDS = {kind.name: kind for kind in (Sallyport, FakePVE, SDKMock)}
PACKAGES = {"fakepve": ["fakepve[crypto]==0.5.0"], "sdk-mock": ["proxmox-sdk==0.0.15"]}
