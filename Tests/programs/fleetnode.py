"""A cluster of many virtual machines for fleet jobs, in plain Python over plain HTTP: each VM's guest agent runs real
processes of this machine, with the VM's number in $GUEST. It is small so that a thousand of them cost little."""

import base64
import http.server
import json
import re
import subprocess
import threading
import urllib.parse

TOKEN = ("root@pam!fleet", "5d2ad2f9-25c6-4d6e-9d2f-6a4b1f0b7c11")
COMMANDS = ["guest-exec", "guest-exec-status", "guest-file-open", "guest-file-close", "guest-file-read",
            "guest-file-write", "guest-file-seek", "guest-get-osinfo", "guest-info", "guest-ping", "guest-sync"]


class Refused(Exception):
    pass


class FleetNode:
    """What it has, what runs, and what was asked."""

    def __init__(self, count=1000, nodes=5, environment=None):
        self.guests = {100 + i: {"node": f"pve{i % nodes + 1}", "status": "running"} for i in range(count)}
        self.nodes = [f"pve{i + 1}" for i in range(nodes)]
        self.environment = environment or {}
        self.lock = threading.Lock()
        self.processes = {}
        self.running = {}
        self.most = 0
        self.asked = 0
        node = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def do(self):
                url = urllib.parse.urlsplit(self.path)
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                if "json" in (self.headers.get("Content-Type") or ""):
                    fields = {k: v if isinstance(v, list) else [str(v)] for k, v in json.loads(text or "{}").items()}
                else:
                    fields = urllib.parse.parse_qs(text, keep_blank_values=True)
                fields |= urllib.parse.parse_qs(url.query, keep_blank_values=True)
                node.asked += 1
                try:
                    status, answer = 200, {"data": node.answer(
                        self.command, url.path.removeprefix("/api2/json"), fields)}
                except Refused as error:
                    status, answer = 500, {"data": None, "message": str(error)}
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json;charset=UTF-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = do

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_):
                """A gateway that is killed leaves its connections in the middle."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def row(self, vmid):
        guest = self.guests[vmid]
        return {"type": "qemu", "id": f"qemu/{vmid}", "vmid": vmid, "node": guest["node"], "name": f"vm-{vmid}",
                "status": guest["status"], "tags": "fleet;even" if vmid % 2 == 0 else "fleet", "template": 0,
                "pool": "lower" if vmid < 600 else "upper"}

    def answer(self, method, path, fields):
        if path == "/version":
            return {"version": "8.4.14", "release": "8.4", "repoid": "b502d23c55afcba1"}
        if path == "/cluster/resources":
            return [{"type": "node", "node": n, "status": "online", "id": f"node/{n}"} for n in self.nodes] + [
                self.row(vmid) for vmid in self.guests]
        if path == "/access/permissions":
            return {"/": {"VM.Audit": 1, "VM.Monitor": 1}}
        found = re.fullmatch(r"/nodes/(\w+)/qemu/(\d+)/(.+)", path)
        if not found or int(found[2]) not in self.guests:
            raise Refused(f"there is no {path}")
        vmid, what = int(found[2]), found[3]
        if what == "status/current":
            return {"vmid": vmid, "status": self.guests[vmid]["status"], "uptime": 86400, "agent": 1, "name": f"vm-{vmid}"}
        if what == "config":
            return {"agent": "1", "name": f"vm-{vmid}"}
        if what == "agent/ping":
            return {"result": {}}
        if what == "agent/info":
            return {"result": {"version": "7.2.22", "supported_commands": [
                {"name": name, "enabled": True, "success-response": True} for name in COMMANDS]}}
        if what == "agent/get-osinfo":
            return {"result": {"id": "debian", "pretty-name": "Debian GNU/Linux 12 (bookworm)"}}
        if what == "agent/exec" and method == "POST":
            return self.execute(vmid, fields)
        if what == "agent/exec-status":
            return self.status(int(fields["pid"][0]))
        if what == "agent/file-read":
            return self.read(fields)
        if what == "agent/file-write":
            content = fields["content"][0]
            data = base64.b64decode(content) if fields.get("encode") == ["0"] else content.encode("latin-1")
            with open(fields["file"][0], "wb") as file:
                file.write(data)
            return None
        raise Refused(f"there is no {path}")

    def read(self, fields):
        try:
            with open(fields["file"][0], "rb") as file:
                data = file.read(1 << 24)
        except OSError as error:
            raise Refused(f"Agent error: failed to open file '{fields['file'][0]}' (mode: 'r'): {error.strerror}") from None
        return {"content": data.decode("latin-1"), "bytes-read": len(data)}

    def execute(self, vmid, fields):
        command = fields["command"]
        # The gateway's own view of its limit: what was started and not yet told to be over.
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={"PATH": "/usr/bin:/bin", "GUEST": str(vmid), **self.environment}, start_new_session=True)
        except OSError as error:
            raise Refused(f"Agent error: Guest agent command failed, error was 'Failed to execute child process "
                          f"“{command[0]}” ({error.strerror})'") from None
        entry = {"process": process, "vmid": vmid, "out": b"", "err": b"", "done": False}
        given = (fields.get("input-data") or [""])[0].encode("latin-1")

        def collect():
            entry["out"], entry["err"] = process.communicate(given)
            with self.lock:
                self.running.pop(process.pid, None)
                entry["done"] = True

        with self.lock:
            self.processes[process.pid] = entry
            self.running[process.pid] = vmid
            # By guest: looks at a command's output are calls of their own beside it.
            self.most = max(self.most, len(set(self.running.values())))
        threading.Thread(target=collect, daemon=True).start()
        return {"pid": process.pid}

    def status(self, pid):
        with self.lock:
            entry = self.processes.get(pid)
            if entry is None:
                raise Refused("Agent error: Invalid parameter 'pid'")
            if not entry["done"]:
                return {"exited": 0}
            # Told once only, as qemu-ga does.
            del self.processes[pid]
        code = entry["process"].returncode
        out = {"exited": 1, "out-data": entry["out"].decode("latin-1"), "err-data": entry["err"].decode("latin-1"),
               "out-truncated": 0, "err-truncated": 0}
        out["signal" if code < 0 else "exitcode"] = abs(code)
        return out
