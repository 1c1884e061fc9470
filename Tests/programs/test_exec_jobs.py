"""Jobs through the API of the program: what is told, what is kept, and what a `kill -9` of the gateway leaves."""

import base64
import http.client
import json
import re
import secrets
import shutil
import signal
import tempfile
import threading
import time
import urllib.parse

import pytest
from conftest import PROGRAM, Gateway, Service, cluster_yaml

PATIENCE = 60


class API:
    """The gateway's API over Python's own HTTP client, one connection for each call."""

    def __init__(self, url, key):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.key = parts.hostname, parts.port, key

    def raw(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            every = {"Authorization": f"Bearer {self.key}", **{k.replace("_", "-"): v for k, v in headers.items()}}
            connection.request(method, path, body, every)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def call(self, method, path, body=None, **headers):
        if body is not None:
            headers.setdefault("Content_Type", "application/json")
            body = json.dumps(body).encode()
        status, _, text = self.raw(method, path, body, **headers)
        return status, json.loads(text) if text else None

    def order(self, argv=None, target="qemu/100", wait=None, **more):
        body = {"target": target, **({"argv": argv} if argv else {}), **more}
        status, job = self.call("POST", "/v1/exec" + (f"?wait={wait}" if wait else ""), body)
        assert status == 201, job
        return job

    def over(self, job, patience=PATIENCE):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            status, summary = self.call("GET", f"/v1/exec/{job}?wait=20")
            assert status == 200, summary
            if summary["state"] in ("ended", "failed"):
                return summary
        raise AssertionError(f"the job is not over: {summary}")

    def output(self, job, stream="stdout", offset=0):
        status, headers, body = self.raw("GET", f"/v1/exec/{job}/output?stream={stream}&offset={offset}")
        assert status == 200, body
        assert int(headers["sallyport-next-offset"]) == offset + len(body)
        return body

    def events(self, job, last=None, until=None):
        """The server-sent events as (name, id, data)."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self.key}", "Accept": "text/event-stream"}
            if last:
                headers["Last-Event-ID"] = last
            connection.request("GET", f"/v1/exec/{job}/output", headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200 and answer.getheader("Content-Type") == "text/event-stream"
            event = {}
            for line in answer:
                line = line.rstrip(b"\n").decode()
                if line:
                    name, _, value = line.partition(": ")
                    event[name] = value
                elif "event" in event:
                    data = json.loads(event["data"])
                    yield event["event"], event["id"], data
                    if event["event"] == "ended" or (until and until(event["event"], data)):
                        return
                    event = {}
                else:
                    event = {}
        finally:
            connection.close()


@pytest.fixture(scope="module")
def machine():
    """A node whose VM has a real agent, in a room of its own where this machine can make one."""
    service = Service("node", "--json")
    yield service.card
    assert service.stop() == 0, service.log


@pytest.fixture
def start(machine, tmp_path):
    """Starts gateways with the same folder of jobs."""
    running = []
    data = tempfile.mkdtemp(prefix="sallyport-jobs-")

    def begin(exec_="", **environment):
        text = cluster_yaml(
            f"127.0.0.1:{machine['port']}", "root@pam", tmp_path, machine["users"]["root@pam"],
            f"{{ fingerprint: \"{machine['fingerprint']}\" }}")
        text += f"exec:\n  dataFolder: {data}\n  auditFile: {data}/audit.jsonl\n{exec_}"
        service = Gateway(tmp_path, text, **environment)
        running.append(service)
        service.api = API(service.url, service.key)
        service.data = data
        return service

    yield begin
    for service in running:
        service.stop()
    shutil.rmtree(data)


def test_a_command_and_everything_about_it(start):
    gateway = start()
    api = gateway.api
    job = api.order(["sh", "-c", "echo out; echo err >&2; exit 7"], wait=30, labels={"run": "1"})
    assert job["state"] == "ended" and job["end"] == {"kind": "exited", "code": 7}, job
    assert job["transport"] == "agent" and job["reason"]
    assert api.output(job["id"]) == b"out\n"
    assert api.output(job["id"], "stderr") == b"err\n"
    assert api.output(job["id"], offset=2) == b"t\n"
    status, listed = api.call("GET", "/v1/exec?label=run%3D1")
    assert status == 200 and [j["id"] for j in listed["jobs"]] == [job["id"]]
    assert api.call("DELETE", f"/v1/exec/{job['id']}")[0] == 204
    assert api.call("GET", f"/v1/exec/{job['id']}")[0] == 404
    lines = [json.loads(line) for line in open(f"{gateway.data}/audit.jsonl")]
    assert [line["event"] for line in lines] == ["started", "ended"]
    assert lines[1]["end"] == {"kind": "exited", "code": 7} and lines[0]["key"] == "environment"


def test_arguments_arrive_as_they_are(start):
    api = start().api
    words = ["", "a b", "'", '"', "$(id)", "\n", "ä", "*", "\\", "-n"]
    raw = [base64.b64encode(b).decode() for b in (b"printf", b"%s|", b"\xff\xfe", b"x\ny")]
    job = api.order(["printf", "%s|", *words], wait=30)
    assert api.output(job["id"]).decode() == "".join(w + "|" for w in words)
    job = api.order(None, argvBase64=raw, wait=30)
    assert api.output(job["id"]) == b"\xff\xfe|x\ny|"


def test_the_same_idempotency_key_runs_once(start):
    api = start().api
    body = {"target": "qemu/100", "argv": ["true"]}
    key = secrets.token_hex(8)
    answers = []

    def order():
        answers.append(api.call("POST", "/v1/exec", body, Idempotency_Key=key))

    threads = [threading.Thread(target=order) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len({a["id"] for _, a in answers}) == 1
    assert sorted(s for s, _ in answers) == [200] * 19 + [201]
    status, problem = api.call("POST", "/v1/exec", {**body, "argv": ["false"]}, Idempotency_Key=key)
    assert status == 422 and problem["type"].endswith("idempotency-key-reused")


@pytest.mark.parametrize("body, field", [
    ({}, "target"), ({"target": "qemu/100"}, "argv"), ({"target": "qemu/100", "argv": []}, "argv"),
    ({"target": "qemu/100", "argv": ["a"], "shell": "b"}, "shell"),
    ({"target": "qemu/100", "argv": ["a\0b"]}, "argv[0]"), ({"target": "qemu/100", "argv": "ls"}, "argv"),
    ({"target": "qemu/100", "argv": ["a"], "cmd": 1}, "cmd"),
    ({"target": "qemu/100", "argv": ["a"], "timeLimit": -1}, "timeLimit"),
    ({"target": "qemu/100", "argv": ["a"], "terminal": {"columns": 1}}, "terminal"),
    ({"target": "qemu/100", "argv": ["a"], "environment": {"A=B": "1"}}, "environment"),
    ({"target": "qemu/100", "argv": ["a"], "directory": "tmp"}, "directory"),
    ({"target": "qemu/100", "argv": ["a"], "user": "-x"}, "user"),
    ({"target": "qemu/100", "argv": ["a"], "transport": "pigeon"}, "transport"),
    ({"target": "qemu/100", "argv": ["a"], "onDisconnect": {"keepFor": -1}}, "onDisconnect"),
    ({"target": "qemu/100", "argv": ["a"], "secret": ["x"]}, "secret"),
    ({"target": "qemu/100", "argv": ["a"], "stdinBase64": "?"}, "stdinBase64"),
    ({"target": "qemu/999", "argv": ["a"]}, "target"),
])
def test_what_is_wrong_is_named(start, body, field):
    api = start().api
    status, problem = api.call("POST", "/v1/exec", body)
    assert 400 <= status < 500 and problem.get("field") == field, problem
    assert problem["detail"]


def test_explain_runs_nothing(start):
    api = start().api
    status, answer = api.call("POST", "/v1/exec", {"target": "qemu/100", "argv": ["true"], "explain": True})
    assert status == 200 and answer["chosen"] == "agent", answer
    assert any(t["transport"] == "agent" and t["possible"] and t["reason"] for t in answer["transports"])
    assert api.call("GET", "/v1/exec")[1]["jobs"] == []


def test_events_go_on_where_they_were(start):
    api = start().api
    job = api.order(["sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; echo e$i >&2; sleep 0.2; done"])
    seen, last = {"stdout": b"", "stderr": b""}, None
    for _ in range(50):
        ended = False
        for name, identity, data in api.events(job["id"], last, until=lambda n, d: n == "stdout"):
            last = identity
            if name in seen:
                assert data["offset"] == len(seen[name])
                seen[name] += base64.b64decode(data["data"])
            ended = name == "ended"
        if ended:
            break
    assert seen["stdout"] == b"".join(b"line %d\n" % i for i in range(1, 7))
    assert seen["stderr"] == b"".join(b"e%d\n" % i for i in range(1, 7))


def test_secrets_are_nowhere(start):
    gateway = start()
    api = gateway.api
    word = "s" + secrets.token_hex(12)
    job = api.order(
        ["sh", "-c", f"test \"$TOKEN\" = {word}"], wait=30, environment={"TOKEN": word}, secret=["argv", "environment"])
    assert job["end"] == {"kind": "exited", "code": 0}, job
    assert word not in json.dumps(job)
    gateway.stop()
    assert word not in gateway.log
    found = []
    for name in ("jobs.sqlite", "jobs.sqlite-wal", "audit.jsonl"):
        try:
            if word.encode() in open(f"{gateway.data}/{name}", "rb").read():
                found.append(name)
        except FileNotFoundError:
            pass
    assert found == []


def test_rights(start, tmp_path):
    keys = {name: secrets.token_hex(16) for name in ("READER", "RUNNER", "ADMIN")}
    gateway = start(
        "apiKeys:\n"
        "  - {name: reader, keyEnvironment: READER, rights: [inventory]}\n"
        "  - {name: runner, keyEnvironment: RUNNER, exec: {argv: [\"echo .*\"]}}\n"
        "  - {name: admin, keyEnvironment: ADMIN, rights: [exec-all]}\n", **keys)
    reader, runner, admin = (API(gateway.url, keys[k]) for k in ("READER", "RUNNER", "ADMIN"))
    body = {"target": "qemu/100", "argv": ["echo", "hi"]}
    assert reader.call("POST", "/v1/exec", body)[0] == 403
    assert reader.call("GET", "/v1/exec")[0] == 403
    assert reader.call("GET", "/v1/inventory")[0] == 200
    job = runner.order(["echo", "hi"], wait=30)
    status, problem = runner.call("POST", "/v1/exec", {**body, "argv": ["id"]})
    assert status == 403 and problem["rule"] == "exec.argv", problem
    # Another key's job looks like none; who may see all sees it.
    assert gateway.api.call("GET", f"/v1/exec/{job['id']}")[0] == 404
    assert admin.call("GET", f"/v1/exec/{job['id']}")[0] == 200
    assert [j["id"] for j in admin.call("GET", "/v1/exec")[1]["jobs"]] == [job["id"]]


def test_who_goes_away_ends_what_was_to_end_with_them(start):
    api = start().api
    jobs = {rule: api.order(["sleep", "60"], onDisconnect=rule)["id"] for rule in ("kill", "keep")}
    for job in jobs.values():
        for name, _, data in api.events(job, until=lambda n, d: n == "state" and d["state"] == "running"):
            pass
    # The connection was closed without a word.
    summary = api.over(jobs["kill"], 30)
    assert summary["end"]["kind"] == "cancelled", summary
    assert api.call("GET", f"/v1/exec/{jobs['keep']}")[1]["state"] == "running"
    status, summary = api.call("DELETE", f"/v1/exec/{jobs['keep']}")
    assert status == 202
    assert api.over(jobs["keep"])["end"]["kind"] == "cancelled"


def test_input_comes_in_pieces_that_may_be_sent_again(start):
    api = start().api
    job = api.order(["sh", "-c", "cat; echo; echo end"], stdin=True)["id"]
    for offset, piece in ((0, b"hello "), (0, b"hello "), (3, b"lo world")):
        status, _, text = api.raw("PUT", f"/v1/exec/{job}/stdin?offset={offset}", piece)
        assert status == 200, text
    assert json.loads(text)["taken"] == 11
    status, problem = api.call("PUT", f"/v1/exec/{job}/stdin?offset=20", {})
    assert status == 409 and problem["taken"] == 11, problem
    status, _, text = api.raw("PUT", f"/v1/exec/{job}/stdin?end=1")
    assert status == 200, text
    assert api.over(job)["end"] == {"kind": "exited", "code": 0}
    assert api.output(job) == b"hello world\nend\n"


def test_signals_and_sizes(start):
    api = start().api
    job = api.order(["sh", "-c", "trap 'echo caught; exit 5' USR1; while :; do sleep 0.1; done"])["id"]
    for name, _, data in api.events(job, until=lambda n, d: n == "state" and d["state"] == "running"):
        pass
    time.sleep(1)
    status, problem = api.call("POST", f"/v1/exec/{job}/signal", {"signal": "NO"})
    assert status == 400 and problem["field"] == "signal"
    status, problem = api.call("POST", f"/v1/exec/{job}/signal", {"signal": "USR1"})
    if status == 422:  # plain agent calls have no signals, and say so
        assert problem["type"].endswith("unsupported"), problem
        api.call("DELETE", f"/v1/exec/{job}")
    else:
        assert status == 204
        assert api.over(job)["end"] == {"kind": "exited", "code": 5}
        assert api.output(job) == b"caught\n"
    status, problem = api.call("POST", f"/v1/exec/{job}/resize", {"columns": 100, "rows": 40})
    assert status == 409 and problem["type"].endswith("no-terminal")


def test_much_output_comes_whole(start):
    api = start().api
    job = api.order(["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x; echo end"], wait=60)
    assert job["end"] == {"kind": "exited", "code": 0}, job
    whole = api.output(job["id"])
    assert whole == b"x" * 5000000 + b"end\n"
    assert api.output(job["id"], offset=4999999) == b"xend\n"
    taken = b"".join(
        base64.b64decode(data["data"]) for name, _, data in api.events(job["id"]) if name == "stdout")
    assert taken == whole


def test_a_node_and_a_container(start):
    api = start().api
    for target in ("node/pve1", "lxc/200"):
        status, answer = api.call("POST", "/v1/exec", {"target": target, "argv": ["true"], "explain": True})
        assert status in (200, 404), answer
        if status == 404:
            continue
        job = api.order(["sh", "-c", "echo here; exit 3"], target=target, wait=60)
        assert job["state"] == "ended" and job["end"] == {"kind": "exited", "code": 3}, job
        assert api.output(job["id"]) == b"here\n"


def test_kill_minus_nine_with_fifty_jobs(start):
    gateway = start()
    api = gateway.api
    jobs = {}
    for i in range(50):
        if i % 5 == 4:
            jobs[api.order(["sh", "-c", f"echo in {i}; cat; echo done {i}"], stdin=True)["id"]] = ("cat", i)
        else:
            script = f"n=0; while [ $n -lt 40 ]; do echo job {i} line $n; n=$((n+1)); sleep 0.25; done; exit {i}"
            jobs[api.order(["sh", "-c", script])["id"]] = ("loop", i)
    told, last, halt = {}, {}, threading.Event()

    def follow(identity):
        told[identity], last[identity] = b"", None
        try:
            for name, at, data in api.events(identity, until=lambda n, d: halt.is_set()):
                if name == "stdout":
                    assert data["offset"] == len(told[identity])
                    told[identity] += base64.b64decode(data["data"])
                last[identity] = at
        except (OSError, http.client.HTTPException, ValueError):
            pass

    threads = [threading.Thread(target=follow, args=(identity,), daemon=True) for identity in jobs]
    for t in threads:
        t.start()
    for identity, (kind, i) in jobs.items():
        if kind == "cat":
            status, answer = api.call("GET", f"/v1/exec/{identity}")
            api.raw("PUT", f"/v1/exec/{identity}/stdin?offset=0", b"before %d\n" % i)
    time.sleep(3)
    gateway.process.kill()
    gateway.process.wait(10)
    for t in threads:
        t.join(20)
        assert not t.is_alive()
    acknowledged = dict(told)

    again = start()
    api = again.api
    api.key = again.key
    lost = []
    for identity, (kind, i) in jobs.items():
        if kind == "cat":
            status, _, text = api.raw("PUT", f"/v1/exec/{identity}/stdin?offset=0&end=1", b"before %d\nafter %d\n" % (i, i))
            assert status in (200, 409), text
    for identity, (kind, i) in jobs.items():
        summary = api.over(identity, 120)
        whole = api.output(identity)
        # Nothing that was told to anybody is missing, in whatever state the job is.
        assert whole.startswith(acknowledged[identity]), identity
        if summary["state"] == "ended" and summary["end"]["kind"] == "lost":
            assert re.search("restart", summary["end"]["why"]), summary
            lost.append(identity)
            continue
        if kind == "loop":
            assert summary["end"] == {"kind": "exited", "code": i}, summary
            assert whole == b"".join(b"job %d line %d\n" % (i, n) for n in range(40))
        else:
            assert summary["end"] == {"kind": "exited", "code": 0}, summary
            assert whole == b"in %d\nbefore %d\nafter %d\ndone %d\n" % (i, i, i, i)
    print(f"{len(jobs) - len(lost)} taken up again, {len(lost)} lost")
    # Nothing ran twice: the guest would have told a line twice.
    assert len(lost) < len(jobs)
