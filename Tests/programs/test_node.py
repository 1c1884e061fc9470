"""The embedded node as a program: what it makes of its options, its state file over `kill -9`, its own interface."""

import hashlib
import json
import os
import random
import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from conftest import PROGRAM, ROOT, Service, clean_environment


class Node(Service):
    """`sallyport node`, asked with nothing but the standard library."""

    def __init__(self, *options, **environment):
        super().__init__("node", "--json", *options, **environment)
        self.tls = ssl.create_default_context(cadata=self.card["ca"])
        token = self.card["token"]
        self.headers = {"Authorization": f"PVEAPIToken={token['id']}={token['secret']}"}

    def open(self, method, path, body=None, headers=None, kind=None):
        """(status, reason, text)"""
        request = urllib.request.Request(
            self.card["url"] + path, method=method, data=body, headers={**(headers or {}), **({"Content-Type": kind} if kind else {})})
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=30) as answer:
                return answer.status, answer.reason, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.reason, error.read()

    def api(self, method, path, headers=None, **form):
        body = urllib.parse.urlencode(form).encode() if form or method in ("POST", "PUT") else None
        status, reason, text = self.open(method, "/api2/json" + path, body, headers or self.headers)
        return status, json.loads(text)["data"] if status == 200 else reason

    def simulator(self, method, path="", body=None, headers=None):
        status, _, text = self.open(
            method, "/simulator" + path, None if body is None else json.dumps(body).encode(), headers,
            kind="application/json" if body is not None else None)
        return status, json.loads(text)

    def login(self, user="root@pam"):
        status, data = self.api("POST", "/access/ticket", headers={"X": "y"}, username=user, password=self.card["users"][user])
        assert status == 200
        return {"Cookie": "PVEAuthCookie=" + urllib.parse.quote(data["ticket"], safe=""), "CSRFPreventionToken": data["CSRFPreventionToken"]}


@pytest.fixture
def start():
    running = []

    def start(*options, **environment):
        running.append(Node(*options, **environment))
        return running[-1]

    yield start
    for node in running:
        node.stop()


def refusal(*options, status, **environment):
    """The one line that says why it didn't start."""
    result = subprocess.run(
        [PROGRAM, "node", "--json", *map(str, options)], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL,
        env=clean_environment(**environment), cwd=ROOT)
    assert result.returncode == status, (result.returncode, result.stderr)
    assert result.stdout == ""
    assert result.stderr.startswith("sallyport: ") and result.stderr.count("\n") == 1, result.stderr
    return result.stderr


# bad input at the start


@pytest.mark.parametrize("options, status, words", [
    (["--pve", "6.4"], 64, "one of 7.4, 8.4, 8.4-2026, 9.0, 9.1, 9.2"),
    (["--guests", "20001"], 64, "0 to 20000, not 20001"),
    (["--nodes", "65"], 64, "1 to 64, not 65"),
    (["--nodes", "0"], 64, "1 to 64, not 0"),
    (["--fault", "letency=1s"], 64, "'letency' is none"),
    (["--fault", "latency=1s,pth=/x"], 64, "'pth' is no field"),
    (["--fault", "node-down=pve9"], 78, "there is no node 'pve9'"),
    (["--fault-file", "/nonexistent/faults"], 78, "No such file"),
    (["--state", "/nonexistent/state"], 78, "/nonexistent/state can't be used: No such file or directory"),
    (["--state", "/tmp"], 78, "/tmp is a folder, not a file"),
    (["--journal", "/nonexistent/journal"], 78, "No such file or directory"),
    (["--port", "65500", "--nodes", "64"], 78, "port 65500"),
])
def test_bad_options_are_one_line_and_an_exit_code(options, status, words):
    assert words in refusal(*options, status=status)


def test_a_port_in_use(start):
    node = start()
    assert "in use" in refusal("--port", node.card["port"], status=78)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # The second node's port is as much needed as the first's.
        line = refusal("--port", taken.getsockname()[1] - 1, "--nodes", 2, status=78)
        assert "in use" in line


def test_a_fault_file_with_a_mistake_says_where(tmp_path):
    faults = tmp_path / "faults"
    faults.write_text("# these\nlatency=1s\nhang=3\n")
    assert "line 3: 'hang' has no value" in refusal("--fault-file", faults, status=78)


def test_state_files_that_cannot_be_used_stay_as_they_are(tmp_path, start):
    good = tmp_path / "good"
    start("--state", str(good)).stop()
    foreign = tmp_path / "foreign"
    with sqlite3.connect(foreign) as database:
        database.execute("create table t (x)")
    bytes_ = good.read_bytes()
    files = {
        "text": (b"dear diary\n", "no SQLite database"),
        "foreign": (foreign.read_bytes(), "another program's"),
        "half": (bytes_[: len(bytes_) // 2], "is damaged"),
        "later": (bytes_[:60] + (99).to_bytes(4, "big") + bytes_[64:], "later version"),
    }
    for name, (content, words) in files.items():
        file = tmp_path / name
        file.write_bytes(content)
        assert words in refusal("--state", file, status=78), name
        assert file.read_bytes() == content, name
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*files, "good"])


def test_a_state_file_has_one_user(tmp_path, start):
    file = tmp_path / "state"
    start("--state", str(file))
    before = hashlib.sha256(file.read_bytes()).digest()
    assert f"{file} is in use by another simulated node" in refusal("--state", file, status=78)
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_a_state_file_of_another_cluster_is_refused(tmp_path, start):
    file = str(tmp_path / "state")
    start("--state", file, "--seed", "3", "--guests", "10").stop()
    line = refusal("--state", file, "--seed", "4", "--guests", "10", status=78)
    assert "seed 3, 10 guests" in line and "seed 4, 10 guests" in line
    node = start("--state", file)
    assert len(node.api("GET", "/cluster/resources?type=vm")[1]) == 10


def test_the_era_is_kept_with_the_state(tmp_path, start):
    file = str(tmp_path / "state")
    start("--state", file, "--pve", "8.4").stop()
    node = start("--state", file)
    assert node.card["pve"] == "8.4" and node.api("GET", "/version")[1]["version"].startswith("8.4")
    node.stop()
    assert start("--state", file, "--pve", "9.2").card["pve"] == "9.2"


# state


def test_everything_that_was_answered_is_there_after_kill_9(tmp_path, start):
    """Writers run until the process is killed under them; what they were told is in the file the next time."""
    file = str(tmp_path / "state")
    random.seed(20)
    users, pools, notes, guests = set(), set(), 0, set()
    ticket = identity = None
    for round_ in range(8):
        node = start("--state", file)
        if round_ == 0:
            ticket, identity = node.login(), (node.card["fingerprint"], node.card["token"], node.card["users"])
        assert (node.card["fingerprint"], node.card["token"], node.card["users"]) == identity
        # A ticket of the first life opens the last one.
        assert node.api("GET", "/version", headers=ticket)[0] == 200
        assert {u["userid"] for u in node.api("GET", "/access/users")[1]} >= users
        assert {p["poolid"] for p in node.api("GET", "/pools")[1]} >= pools
        assert {g["vmid"] for g in node.api("GET", "/cluster/resources?type=vm")[1]} >= guests | {100, 101}
        assert int(node.api("GET", "/nodes/pve1/qemu/100/config")[1].get("description") or 0) >= notes
        done = threading.Event()

        def write(what):
            nonlocal notes
            number = 0
            while not done.is_set():
                number += 1
                name = f"r{round_}n{number}"
                try:
                    if what == "users":
                        if node.api("POST", "/access/users", userid=f"{name}@pve")[0] == 200:
                            users.add(f"{name}@pve")
                    elif what == "pools":
                        if node.api("POST", "/pools", poolid=name)[0] == 200:
                            pools.add(name)
                    elif what == "notes":
                        if node.api("PUT", "/nodes/pve1/qemu/100/config", description=str(notes + 1))[0] == 200:
                            notes += 1
                    else:
                        vmid = 1000 + round_ * 1000 + number
                        status, upid = node.api("POST", "/nodes/pve1/qemu", vmid=vmid, name=name)
                        if status != 200:
                            continue
                        place = f"/nodes/pve1/tasks/{urllib.parse.quote(upid)}/status"
                        while not done.is_set():
                            # That a task is over is an answer as well.
                            ended = node.api("GET", place)[1]
                            if ended["status"] == "stopped":
                                if ended["exitstatus"] == "OK":
                                    guests.add(vmid)
                                break
                except (OSError, ValueError, TypeError):
                    return  # The process is gone; what was under way may or may not have happened.

        writers = [threading.Thread(target=write, args=(w,)) for w in ("users", "pools", "notes", "guests")]
        for writer in writers:
            writer.start()
        time.sleep(0.2 + random.random() * 0.6)
        os.kill(node.process.pid, signal.SIGKILL)
        done.set()
        for writer in writers:
            writer.join(30)
        node.process.wait(10)
    assert len(users) > 8 and len(pools) > 8 and notes > 8 and len(guests) > 8
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)


def test_guests_and_tasks_come_back_as_they_were(tmp_path, start):
    file = str(tmp_path / "state")
    node = start("--state", file, "--nodes", "2")
    status, upid = node.api("POST", "/nodes/pve1/qemu/100/status/stop")
    assert status == 200
    place = f"/nodes/pve1/tasks/{urllib.parse.quote(upid)}/status"
    while node.api("GET", place)[1]["status"] != "stopped":
        time.sleep(0.02)
    os.kill(node.process.pid, signal.SIGKILL)
    node.process.wait(10)
    node = start("--state", file)
    assert [n["name"] for n in node.card["nodes"]] == ["pve1", "pve2"]
    assert node.api("GET", place)[1]["exitstatus"] == "OK"
    guests = {g["vmid"]: g for g in node.api("GET", "/cluster/resources?type=vm")[1]}
    assert guests[100]["status"] == "stopped" and guests[101]["node"] == "pve2" and guests[102]["status"] == "stopped"
    # A clean end isn't the end of the guests, either.
    node.stop()
    node = start("--state", file)
    guests = {g["vmid"]: g["status"] for g in node.api("GET", "/cluster/resources?type=vm")[1]}
    assert guests[101] == "running" and guests[100] == "stopped"
    # And a reset brings the start back, for good.
    assert node.simulator("POST", "/reset")[0] == 200
    os.kill(node.process.pid, signal.SIGKILL)
    node.process.wait(10)
    node = start("--state", file)
    guests = {g["vmid"]: g["status"] for g in node.api("GET", "/cluster/resources?type=vm")[1]}
    assert guests[100] == "running"


def test_the_state_is_its_owners_alone(tmp_path, start):
    file = tmp_path / "state"
    node = start("--state", str(file))
    assert node.api("POST", "/pools", poolid="p")[0] == 200
    for part in tmp_path.iterdir():
        assert part.stat().st_mode & 0o077 == 0, part


# seeds


def test_a_seed_makes_the_same_cluster_again(start):
    def cluster(node):
        rows = node.api("GET", "/cluster/resources?type=vm")[1]
        return [(r["vmid"], r["name"], r["node"], r["status"], r.get("tags"), r["maxmem"]) for r in rows]

    options = ["--seed", "7", "--guests", "300", "--nodes", "5"]
    first = cluster(start(*options))
    assert len(first) == 300 and len({row[2] for row in first}) == 5
    assert cluster(start(*options)) == first
    assert cluster(start("--seed", "8", *options[2:])) != first


def test_the_largest_cluster_starts(start):
    began = time.monotonic()
    node = start("--guests", "20000", "--nodes", "64")
    assert time.monotonic() - began < 20
    assert len(node.card["nodes"]) == 64
    assert len(node.api("GET", "/cluster/resources?type=vm")[1]) == 20_000


# /simulator


def test_the_simulator_tells_what_it_is(start):
    node = start("--pve", "9.0", "--nodes", "2")
    status, about = node.simulator("GET")
    assert status == 200
    assert about["pve"] == "9.0" and [n["url"] for n in about["nodes"]] == [n["url"] for n in node.card["nodes"]]
    assert about["nodes"][0]["fingerprint"] == node.card["fingerprint"]
    assert {u["userid"] for u in about["users"]} == set(node.card["users"])
    text = json.dumps(about)
    assert not any(secret in text for secret in [*node.card["users"].values(), node.card["token"]["secret"]])


def test_faults_over_http(start):
    node = start("--fault", "status=503,message=no quorum,path=/nodes,times=1", "--fault-seed", "9")
    assert node.api("GET", "/nodes") == (503, "no quorum")
    assert node.api("GET", "/nodes")[0] == 200
    status, fault = node.simulator("POST", "/faults", {"status": 500, "message": "x", "path": "/version", "nth": 2})
    assert status == 200 and fault["id"] == "2" and fault["state"] == "waits"
    assert [node.api("GET", "/version")[0] for _ in range(3)] == [200, 500, 200]
    status, faults = node.simulator("GET", "/faults")
    assert faults["seed"] == "9"
    assert [(f["id"], f["matched"], f["applied"], f["state"]) for f in faults["faults"]] == [("1", 2, 1, "over"), ("2", 3, 1, "over")]
    assert node.simulator("DELETE", "/faults/1")[0] == 200
    assert node.simulator("GET", "/faults/1")[0] == 404
    status, faults = node.simulator("PUT", "/faults", {"seed": 3, "faults": [{"latency": "1ms"}, {"hang": True, "user": "nobody@pve"}]})
    assert status == 200 and faults["seed"] == "3" and [f["id"] for f in faults["faults"]] == ["1", "2"]
    assert node.simulator("POST", "/faults", [{"hang": True}, {"latency": 5}]) == (
        400, {"error": "'latency' is a time with its unit, like 200ms, 1.5s or 2m, not '5'"})
    assert len(node.simulator("GET", "/faults")[1]["faults"]) == 2
    assert node.simulator("POST", "/faults", {"node-down": "pve1"})[0] == 400
    assert node.simulator("DELETE", "/faults")[1]["faults"] == []


def test_the_journal_over_http_and_in_a_file(tmp_path, start):
    file = tmp_path / "journal"
    node = start("--journal", str(file))
    node.api("POST", "/access/ticket", headers={"X": "y"}, username="root@pam", password="hunter2hunter2")
    node.api("GET", "/nodes/pve1/qemu/100/status/current")
    node.open("POST", "/api2/json/access/ticket", b'{"password":"hunter2hunter2"}')
    status, journal = node.simulator("GET", "/journal")
    assert status == 200 and [e["status"] for e in journal["entries"]][:2] == [401, 200]
    assert [e["path"] for e in node.simulator("GET", "/journal?path=*/current&method=get")[1]["entries"]] == [
        "/api2/json/nodes/pve1/qemu/100/status/current"]
    assert node.simulator("GET", f"/journal?since={journal['last']}")[1]["entries"] == []
    assert node.simulator("GET", "/journal?limit=x")[0] == 400
    assert node.simulator("DELETE", "/journal")[1]["entries"] == []
    node.stop()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3]
    everything = file.read_text() + json.dumps(journal)
    assert "hunter2" not in everything and node.card["token"]["secret"] not in everything


def test_pages_foreign_hosts_and_other_types_are_refused(start):
    node = start()
    body = json.dumps({"hang": True}).encode()
    kind = "application/json"
    assert node.open("POST", "/simulator/faults", body, {"Origin": "https://evil.example"}, kind)[0] == 403
    assert node.open("POST", "/simulator/faults", body, {"Sec-Fetch-Site": "cross-site"}, kind)[0] == 403
    assert node.open("POST", "/simulator/faults", body, {"Host": "evil.example:8006"}, kind)[0] == 403
    assert node.open("GET", "/simulator", None, {"Host": "evil.example"})[0] == 403
    assert node.open("GET", "/simulator", None, {"Host": "127.evil.example"})[0] == 403
    assert node.open("GET", "/simulator", None, {"Host": "localhost:1"})[0] == 200
    assert node.open("POST", "/simulator/faults", body, {}, "text/plain")[0] in (415, 506)
    assert node.open("POST", "/simulator/faults", body, {}, "application/x-www-form-urlencoded")[0] == 415
    assert node.simulator("GET", "/faults")[1]["faults"] == []
    assert node.simulator("GET", "/nothing")[0] == 404
    assert node.simulator("POST", "/journal", {})[0] == 405


def test_a_control_token_is_asked_for(start):
    node = start(SALLYPORT_NODE_CONTROL_TOKEN="open-sesame-1234")
    assert node.simulator("GET")[0] == 401
    assert node.simulator("GET", headers={"Authorization": "Bearer wrong"})[0] == 401
    assert node.simulator("GET", headers={"Authorization": "Bearer open-sesame-1234"})[0] == 200
    assert node.api("GET", "/version")[0] == 200


def test_the_clock_can_be_moved(start):
    node = start()
    ticket = node.login()
    now = node.simulator("GET", "/clock")[1]["time"]
    status, clock = node.simulator("POST", "/clock", {"advance": 7300})
    assert status == 200 and clock["offset"] == 7300 and clock["time"] - now in (7300, 7301)
    assert node.api("GET", "/version", headers=ticket)[0] == 401
    assert node.simulator("POST", "/clock", {"set": 1_900_000_000})[1]["time"] in (1_900_000_000, 1_900_000_001)
    assert node.simulator("POST", "/clock", {"advance": "1"})[0] == 400
    assert node.simulator("POST", "/clock", {"jump": 1})[0] == 400
    node.simulator("POST", "/reset")
    assert node.api("GET", "/version", headers=ticket)[0] == 200
