#!/usr/bin/env python3
"""A stand-in for the gateway, for the page's own development and tests. Standard library only.

It serves web/ with the gateway's headers, keeps one-time links, and fakes a small cluster: terminals are a
real shell on a PTY, the screen is a minimal RFB server that draws a coloured block for every key.
It runs a shell for whoever has the key, so it listens on 127.0.0.1 only.

  mock_gateway.py [--port 8080] [--prefix /some/path] [--key KEY]
"""

import argparse
import base64
import fcntl
import hashlib
import http.server
import json
import mimetypes
import os
import pathlib
import pty
import secrets
import signal
import socket
import struct
import termios
import threading
import time
import urllib.parse

WEB = pathlib.Path(__file__).resolve().parents[2] / "web"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
WINDOW = 256 * 1024
START = time.monotonic()

ENDINGS = {
    "viewer-left": (4000, "viewer"), "guest-not-running": (4100, "guest"), "guest-stopped": (4101, "guest"),
    "no-serial-port": (4103, "guest"), "permission-denied": (4200, "api"), "tls-untrusted": (4302, "api"),
    "node-unreachable": (4303, "api"), "worker-timeout": (4400, "worker"), "worker-exited": (4401, "worker"),
    "viewer-violation": (4501, "viewer"), "idle": (4601, "gateway"), "closed-by-operator": (4604, "gateway"),
    "link-unknown": (4700, "gateway"), "link-used": (4701, "gateway"), "link-expired": (4702, "gateway"),
}


PORTAL = b"""<!doctype html><title>Portal</title><script src="portal.js" type="module"></script>
<style>body { margin: 0 } iframe { display: block; width: 100vw; height: 100vh; border: 0 }</style>"""
PORTAL_SCRIPT = b"""window.news = [];
addEventListener('message', (event) => window.news.push(event.data));
const frame = document.createElement('iframe');
frame.src = '../console.html' + location.hash;
frame.allow = 'fullscreen; clipboard-write';
document.body.append(frame);"""


def guest(vmid, kind, name, node, status, consoles, tags=(), cpu=0.0, mem=0.0, uptime=0, template=False):
    gib = 1024**3
    return {
        "vmid": vmid, "type": kind, "name": name, "node": node, "status": status, "tags": list(tags), "template": template,
        "cpu": cpu, "maxcpu": 2 if kind == "qemu" else 1, "mem": int(mem * gib), "maxmem": (4 if kind == "qemu" else 1) * gib,
        "uptime": uptime, "consoles": list(consoles),
    }


def inventory():
    up = int(time.monotonic() - START)
    wobble = 0.03 * ((up // 10) % 4)
    gib = 1024**3
    clusters = [{
        "name": "lab", "version": "9.2.3",
        "nodes": [
            {"node": "pve1", "status": "online", "cpu": 0.18 + wobble, "maxcpu": 16, "mem": 41 * gib, "maxmem": 64 * gib, "uptime": 3_456_789 + up},
            {"node": "pve2", "status": "online", "cpu": 0.81, "maxcpu": 16, "mem": 60 * gib, "maxmem": 64 * gib, "uptime": 812_345 + up},
            {"node": "pve3", "status": "offline", "cpu": 0, "maxcpu": 8, "mem": 0, "maxmem": 0, "uptime": 0},
        ],
        "guests": [
            guest(100, "qemu", "web1", "pve1", "running", ["vnc", "serial0"], ["prod", "web"], 0.12 + wobble, 2.9, 86_400 * 12 + up),
            guest(101, "qemu", "windows-dc", "pve1", "running", ["vnc", "serial0"], ["prod", "windows"], 0.34, 3.7, 86_400 * 40 + up),
            guest(102, "qemu", "build-agent", "pve2", "stopped", ["vnc", "terminal"], ["ci"]),
            guest(103, "qemu", "debian-13-template", "pve2", "stopped", ["vnc"], [], template=True),
            guest(104, "qemu", "postgres-primary", "pve2", "running", ["vnc", "terminal"], ["prod", "database"], 0.77, 3.1, 86_400 * 3 + up),
            guest(105, "qemu", "paused-vm", "pve2", "paused", ["vnc"], [], 0, 1.2, 4000),
            guest(200, "lxc", "dns1", "pve1", "running", ["terminal", "vnc"], ["infra"], 0.01, 0.12, 86_400 * 90 + up),
            guest(201, "lxc", "reverse-proxy", "pve2", "running", ["terminal", "vnc"], ["infra", "web"], 0.05, 0.93, 7200 + up),
            guest(202, "lxc", "old-wiki", "pve1", "stopped", ["terminal"], []),
            guest(666, "qemu", "fault-dropped", "pve1", "running", ["vnc", "terminal"], ["fault"], 0.5, 1, 60),
            guest(667, "qemu", "fault-stuck", "pve1", "running", ["vnc"], ["fault"], 0.5, 1, 60),
        ],
    }, {
        "name": "branch-office", "version": "", "nodes": [], "guests": [],
        "error": {
            "type": "about:blank#tls-untrusted", "title": "Certificate not trusted", "status": 502,
            "detail": "branch1.example:8006 presented AB:5F:0C:…:91, which is signed by nobody the gateway trusts.",
            "remedy": "Compare it with the node’s own and set tls.fingerprint for cluster branch-office.",
        },
    }]
    return {"clusters": clusters}


class State:
    def __init__(self, key):
        self.key = key
        self.lock = threading.Lock()
        self.consoles = {}  # id -> record
        self.links = {}  # sha256(token) -> id

    def create(self, body):
        token = secrets.token_urlsafe(32)
        record = {
            "id": secrets.token_hex(8), "target": body["target"], "console": body.get("console") or "terminal",
            "readOnly": bool(body.get("readOnly")), "state": "waiting", "created": time.time(), "ttl": int(body.get("ttl") or 60),
            "bytesToViewer": 0, "bytesFromViewer": 0, "ending": None, "live": None,
        }
        with self.lock:
            self.consoles[record["id"]] = record
            self.links[hashlib.sha256(token.encode()).hexdigest()] = record["id"]
        return record, token


class End(Exception):
    """Ends a console with a kind."""

    def __init__(self, kind, sentence, remedy="", details=()):
        super().__init__(sentence)
        code, hop = ENDINGS[kind]
        self.frame = {"type": "ended", "hop": hop, "kind": kind, "sentence": sentence, "remedy": remedy, "details": list(details), "code": code}


class Closed(Exception):
    """The viewer closed its websocket."""


class Socket:
    """The server's side of one websocket, one reader thread and any number of writers."""

    def __init__(self, connection):
        self.connection = connection
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lock = threading.Lock()
        self.buffer = b""

    def _exactly(self, count):
        while len(self.buffer) < count:
            data = self.connection.recv(65536)
            if not data:
                raise Closed
            self.buffer += data
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out

    def receive(self):
        """One message: str or bytes."""
        while True:
            first, second = self._exactly(2)
            size = second & 0x7F
            if size == 126:
                size = struct.unpack(">H", self._exactly(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._exactly(8))[0]
            if size > 64 * 1024 or not first & 0x80 or not second & 0x80:
                raise End("viewer-violation", f"The viewer sent a frame of {size} bytes.")
            mask = self._exactly(4)
            payload = self._exactly(size)
            mask = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(mask, "big")).to_bytes(size, "big")
            opcode = first & 0xF
            if opcode == 8:
                raise Closed
            if opcode == 9:
                self.send(payload, 10)
            elif opcode == 1:
                return payload.decode()
            elif opcode == 2:
                return payload

    def send(self, payload, opcode=None):
        if opcode is None:
            opcode = 1 if isinstance(payload, str) else 2
        data = payload.encode() if isinstance(payload, str) else payload
        size = len(data)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, size)
        elif size < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 127, size)
        with self.lock:
            self.connection.sendall(head + data)

    def json(self, message):
        self.send(json.dumps(message))

    def close(self, code, reason):
        reason = reason.encode()[:123].decode(errors="ignore")
        try:
            self.send(struct.pack(">H", code) + reason.encode(), 8)
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(2)
            while self.connection.recv(65536):
                pass
        except OSError:
            pass

    def drop(self):
        """Gone without a word, as when a cable is pulled."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)


class Live:
    """A console that is open: another thread may end it."""

    def __init__(self, ws):
        self.ws = ws
        self.ended = None

    def end(self, end):
        self.ended = end
        try:
            self.ws.json(end.frame)
        except OSError:
            pass
        self.ws.close(end.frame["code"], f"{end.frame['kind']}: {end.frame['sentence']}")


class TerminalSession:
    def __init__(self, ws, record, size):
        self.ws = ws
        self.record = record
        self.sent = 0
        self.acknowledged = 0
        self.credit = threading.Condition()
        self.gone = False
        prompt = {"node": "root@pve1:~# ", "lxc": "root@dns1:~# ", "qemu": "web1 login> "}[record["target"].split("/")[0]]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1=prompt, TERM="xterm-256color", HISTFILE="/dev/null", LANG="C.UTF-8")
            os.chdir("/tmp")
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.resize(size.get("columns", 80), size.get("rows", 24))
        threading.Thread(target=self.pump, daemon=True).start()

    def resize(self, columns, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def pump(self):
        try:
            while True:
                with self.credit:
                    while self.sent - self.acknowledged > WINDOW and not self.gone:
                        self.credit.wait(1)
                data = os.read(self.fd, 16384)
                if not data:
                    break
                self.sent += len(data)
                self.record["bytesToViewer"] = self.sent
                self.ws.send(data)
        except OSError:
            pass
        if not self.gone:
            self.record["live"].end(End("worker-exited", "The console worker ended: the shell was left.", "Reconnect to start another one.",
                                        ["starting termproxy UPID:pve1:0001A2B3:…:vncshell::root@pam:", "client connection: 127.0.0.1:41234", "TASK OK"]))

    def binary(self, data):
        if not self.record["readOnly"]:
            os.write(self.fd, data)

    def text(self, message):
        if message["type"] == "resize":
            self.resize(message["columns"], message["rows"])
        elif message["type"] == "ack":
            with self.credit:
                self.acknowledged = max(self.acknowledged, int(message["bytes"]))
                self.credit.notify()

    def stop(self):
        with self.credit:
            self.gone = True
            self.credit.notify()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


class ScreenSession:
    """RFB 3.8, security None, raw rectangles; keys draw blocks, the pointer draws dots, cut text comes back in capitals."""

    def __init__(self, ws, record, _size):
        self.ws = ws
        self.record = record
        self.buffer = b""
        self.step = self.version
        self.width, self.height = 640, 400
        self.shift = (16, 8, 0)
        self.cursor = 0
        self.dirty = []
        self.asked = False
        self.can_resize = False
        self.paint_ground()
        ws.send(b"RFB 003.008\n")

    def paint_ground(self):
        rows = []
        for y in range(self.height):
            blue = 60 + 90 * y // self.height
            rows.append(bytes((blue, 40 + blue // 4, 24, 0)) * self.width)  # B G R x
        self.pixels = bytearray(b"".join(rows))
        self.rectangle(20, 20, self.width - 40, 26, (0xD8, 0xDE, 0xE9), note=False)
        self.rectangle(20, 46, self.width - 40, self.height - 66, (0x10, 0x14, 0x1C), note=False)

    def rectangle(self, x, y, w, h, rgb, note=True):
        w, h = min(w, self.width - x), min(h, self.height - y)
        line = bytes((rgb[2], rgb[1], rgb[0], 0)) * w
        for row in range(y, y + h):
            at = (row * self.width + x) * 4
            self.pixels[at:at + w * 4] = line
        if note:
            self.dirty.append((x, y, w, h))

    def take(self, count):
        if len(self.buffer) < count:
            return None
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out

    def binary(self, data):
        self.buffer += data
        while self.step():
            pass
        self.update()

    def version(self):
        if self.take(12) is None:
            return False
        self.ws.send(b"\x01\x01")
        self.step = self.security
        return True

    def security(self):
        if self.take(1) is None:
            return False
        self.ws.send(b"\0\0\0\0")
        self.step = self.initialise
        return True

    def initialise(self):
        if self.take(1) is None:
            return False
        name = b"QEMU (web1)"
        form = struct.pack(">BBBBHHHBBBxxx", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
        self.ws.send(struct.pack(">HH", self.width, self.height) + form + struct.pack(">I", len(name)) + name)
        self.step = self.message
        return True

    def message(self):
        if not self.buffer:
            return False
        kind, have = self.buffer[0], len(self.buffer)
        if kind == 0 and have >= 20:
            form = struct.unpack(">4xBBBBHHHBBB3x", self.take(20))
            self.shift = form[7:10]
        elif kind == 2 and have >= 4 and have >= 4 + 4 * struct.unpack(">H", self.buffer[2:4])[0]:
            count = struct.unpack(">H", self.buffer[2:4])[0]
            encodings = struct.unpack(f">{count}i", self.take(4 + 4 * count)[4:])
            if -308 in encodings and not self.can_resize:
                self.can_resize = True
                self.announce_size(0)
        elif kind == 3 and have >= 10:
            _, incremental, x, y, w, h = struct.unpack(">BBHHHH", self.take(10))
            self.asked = True
            if not incremental:
                self.dirty = [(0, 0, self.width, self.height)]
        elif kind == 4 and have >= 8:
            _, down, keysym = struct.unpack(">BBxxI", self.take(8))
            if down and not self.record["readOnly"]:
                self.key(keysym)
        elif kind == 5 and have >= 6:
            _, buttons, x, y = struct.unpack(">BBHH", self.take(6))
            if buttons and not self.record["readOnly"]:
                self.rectangle(min(x, self.width - 4), min(y, self.height - 4), 4, 4, (255, 200, 87))
        elif kind == 6 and have >= 8 and have >= 8 + struct.unpack(">I", self.buffer[4:8])[0]:
            size = struct.unpack(">I", self.buffer[4:8])[0]
            text = self.take(8 + size)[8:].decode("latin-1").upper().encode("latin-1", "replace")
            self.ws.send(struct.pack(">BxxxI", 3, len(text)) + text)
        elif kind == 251 and have >= 8 and have >= 8 + 16 * self.buffer[6]:
            message = self.take(8 + 16 * self.buffer[6])
            self.width, self.height = struct.unpack(">HH", message[2:6])
            self.width, self.height = max(64, min(self.width, 2560)), max(64, min(self.height, 1600))
            self.cursor = 0
            self.paint_ground()
            self.announce_size(1)
            self.dirty = [(0, 0, self.width, self.height)]
        elif kind in (0, 2, 3, 4, 5, 6, 251):
            return False
        else:
            raise End("viewer-violation", f"The viewer sent RFB message {kind}.")
        return True

    def key(self, keysym):
        columns = (self.width - 64) // 10
        if keysym == 0xFF0D:
            self.cursor = (self.cursor // columns + 1) * columns
            return
        if keysym >= 0xFFE1 and keysym <= 0xFFEE:
            return
        x, y = 32 + 10 * (self.cursor % columns), 56 + 18 * ((self.cursor // columns) % max(1, (self.height - 90) // 18))
        self.cursor += 1
        hue = keysym * 47 % 200
        self.rectangle(x, y, 8, 14, (55 + hue, 255 - hue, 120 + hue // 2))

    def announce_size(self, reason):
        self.ws.send(struct.pack(">BxH", 0, 1) + struct.pack(">HHHHi", reason, 0, self.width, self.height, -308)
                     + struct.pack(">Bxxx", 1) + struct.pack(">IHHHHI", 1, 0, 0, self.width, self.height, 0))

    def update(self):
        if not self.asked or not self.dirty or self.step != self.message:
            return
        parts = [struct.pack(">BxH", 0, len(self.dirty))]
        for x, y, w, h in self.dirty:
            rows = bytearray()
            for row in range(y, y + h):
                at = (row * self.width + x) * 4
                rows += self.pixels[at:at + w * 4]
            if self.shift[0] == 0:  # the viewer wants R G B x
                rows[0::4], rows[2::4] = rows[2::4], rows[0::4]
            parts.append(struct.pack(">HHHHi", x, y, w, h, 0) + bytes(rows))
        self.dirty, self.asked = [], False
        data = b"".join(parts)
        self.record["bytesToViewer"] += len(data)
        for at in range(0, len(data), 60_000):
            self.ws.send(data[at:at + 60_000])

    def text(self, message):
        pass

    def stop(self):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "mock"
    state: State
    prefix = ""

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", kind="application/json", extra=()):
        policy = CSP.replace("default-src 'none'", "default-src 'none'; frame-src 'self'") if body is PORTAL else CSP
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind), ("Content-Length", str(len(body))), ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
            ("Cross-Origin-Opener-Policy", "same-origin"), *extra,
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def json(self, status, value):
        self.answer(status, json.dumps(value).encode())

    def problem(self, status, kind, title, detail="", remedy=""):
        body = {"type": f"about:blank#{kind}", "title": title, "status": status, "detail": detail, "remedy": remedy}
        self.answer(status, json.dumps(body).encode(), "application/problem+json")

    def allowed(self):
        given = self.headers.get("Authorization", "")
        if secrets.compare_digest(given.encode(), f"Bearer {self.state.key}".encode()):
            return True
        self.problem(401, "key-unknown", "This API key isn’t valid", "The gateway doesn’t know this key.", "Check it for missing characters, or ask for another one.")
        return False

    def path_below(self):
        path = urllib.parse.urlsplit(self.path).path
        if not path.startswith(self.prefix + "/"):
            return None
        return path[len(self.prefix) + 1:]

    def do_GET(self):
        path = self.path_below()
        if path is None:
            return self.problem(404, "not-found", "Nothing here")
        if path == "v1/viewer":
            return self.viewer()
        if path in ("healthz", "readyz"):
            return self.json(200, {"status": "ok"})
        if path == "v1/inventory":
            return self.allowed() and self.json(200, inventory())
        if path.startswith("v1/consoles/"):
            if not self.allowed():
                return None
            record = self.state.consoles.get(path.rsplit("/", 1)[1])
            if record is None:
                return self.problem(404, "not-found", "No such console")
            return self.json(200, {k: v for k, v in record.items() if k not in ("live",)})
        if path == "mock/portal":  # somebody's page with the console in a frame
            return self.answer(200, PORTAL, "text/html; charset=utf-8")
        if path == "mock/portal.js":
            return self.answer(200, PORTAL_SCRIPT, "text/javascript")
        file = (WEB / (path or "index.html")).resolve()
        if WEB not in file.parents or not file.is_file() or file.suffix == ".py":
            return self.problem(404, "not-found", "Nothing here")
        kind = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}.get(file.suffix)
        self.answer(200, file.read_bytes(), f"{kind or mimetypes.guess_type(file.name)[0] or 'text/plain'}; charset=utf-8")
        return None

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path = self.path_below()
        if not self.allowed():
            return None
        if path == "v1/consoles":
            kind, _, _ = body.get("target", "").partition("/")
            if kind not in ("node", "qemu", "lxc"):
                return self.problem(422, "guest-not-found", "No such guest", f"There is no {body.get('target')!r}.", "Look at GET /v1/inventory.")
            record, token = self.state.create(body)
            address = f"http://{self.headers['Host']}{self.prefix}/console.html#t={token}"
            return self.json(201, {"id": record["id"], "url": address, "token": token, "expires": "2030-01-01T00:00:00Z", "target": record["target"], "console": record["console"]})
        if path == "mock/end":  # ends a console with any kind
            record = self.state.consoles[body["id"]]
            record["live"].end(End(body["kind"], body["sentence"], body.get("remedy", ""), body.get("details", ())))
            return self.json(200, {})
        if path == "mock/notice":
            self.state.consoles[body["id"]]["live"].ws.json({"type": "notice", "kind": body["kind"], "seconds": body["seconds"]})
            return self.json(200, {})
        return self.problem(404, "not-found", "Nothing here")

    def do_DELETE(self):
        if not self.allowed():
            return None
        record = self.state.consoles.get((self.path_below() or "").rsplit("/", 1)[-1])
        if record is None:
            return self.problem(404, "not-found", "No such console")
        if record["live"]:
            record["live"].end(End("closed-by-operator", "An operator closed this console.", "Ask whoever runs the gateway, or open it again."))
        self.send_response(204)
        self.end_headers()
        return None

    # The websocket

    def viewer(self):
        key = self.headers.get("Sec-WebSocket-Key")
        if self.headers.get("Upgrade", "").lower() != "websocket" or not key:
            return self.problem(426, "upgrade-required", "This is a websocket")
        if self.headers.get("Sec-WebSocket-Protocol") != "sallyport.v1":
            return self.problem(400, "protocol", "Offer exactly the subprotocol sallyport.v1")
        if self.headers.get("Origin") != f"http://{self.headers['Host']}":
            return self.problem(403, "origin-refused", "Wrong Origin")
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        self.wfile.write((
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: sallyport.v1\r\n\r\n").encode())
        self.wfile.flush()
        self.close_connection = True
        ws = Socket(self.connection)
        live, record, session = Live(ws), None, None
        try:
            record = self.redeem(json.loads(ws.receive()))
            record["live"] = live
            session = self.open(ws, record)
            while True:
                message = ws.receive()
                if isinstance(message, bytes):
                    record["bytesFromViewer"] += len(message)
                    session.binary(message)
                else:
                    message = json.loads(message)
                    if message["type"] == "ping":
                        ws.json({"type": "pong", "id": message["id"]})
                    else:
                        session.text(message)
        except End as end:
            live.end(end)
        except (Closed, OSError):
            pass
        finally:
            if session:
                session.stop()
            if record:
                record["state"], record["live"] = "ended", None
        return None

    def redeem(self, opening):
        self.opening = opening
        with self.state.lock:
            digest = hashlib.sha256(str(opening.get("token")).encode()).hexdigest()
            record = self.state.consoles.get(self.state.links.get(digest, ""))
            if record is None:
                raise End("link-unknown", "The gateway doesn’t know this link.", "Ask for a new link; this one may be cut off or from before a restart.")
            if record["state"] != "waiting":
                raise End("link-used", "This link was used before; each works once.", "Ask for a new link.")
            if time.time() > record["created"] + record["ttl"]:
                raise End("link-expired", "This link was not used in time.", "Ask for a new link.")
            record["state"] = "opening"
        return record

    def open(self, ws, record):
        target, console = record["target"], record["console"]
        ws.json({"type": "stage", "stage": "minting", "target": target, "console": console})
        time.sleep(0.1)
        if target == "qemu/102":
            raise End("guest-not-running", "Guest 102 (build-agent) on pve2 is stopped.", "Start it, then open the console again.",
                      ["POST /nodes/pve2/qemu/102/termproxy: 500 VM 102 not running"])
        if target == "qemu/101" and console != "vnc":
            raise End("no-serial-port", "Guest 101 (windows-dc) has no serial port.", "Add one with “qm set 101 -serial0 socket”, start the guest anew, or open its screen.",
                      ["unable to find a serial interface"])
        ws.json({"type": "stage", "stage": "dialling"})
        time.sleep(0.1)
        if target == "qemu/667":
            time.sleep(float(os.environ.get("MOCK_STUCK", "6")))
            raise End("worker-timeout", "The console worker on pve1 accepted no connection within 10 seconds.", "Look at the task log on pve1.",
                      ["TASK ERROR: connection timed out"])
        ws.json({"type": "stage", "stage": "login"})
        names = {str(g["vmid"]): (g["name"], g["node"]) for c in inventory()["clusters"] for g in c["guests"]}
        name, node = names.get(target.split("/")[1], (target.split("/")[1], "pve1"))
        record["state"] = "open"
        ws.json({"type": "ready", "session": record["id"], "target": target, "node": node, "name": name, "console": console, "readOnly": record["readOnly"]})
        kind = ScreenSession if console == "vnc" else TerminalSession
        session = kind(ws, record, self.opening)
        if target == "qemu/666":
            threading.Timer(0.8, ws.drop).start()
        return session


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


def serve(port=0, key=None, prefix=""):
    """Starts it in a thread and answers (server, base address, key)."""
    key = key or secrets.token_urlsafe(18)
    handler = type("MockHandler", (Handler,), {"state": State(key), "prefix": prefix.rstrip("/")})
    server = Server(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}{handler.prefix}/", key


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--key")
    options = parser.parse_args()
    server, base, key = serve(options.port, options.key, options.prefix)
    print(f"{base}#key={key}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        server.shutdown()


if __name__ == "__main__":
    main()
