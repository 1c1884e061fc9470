"""Fleet jobs: one command on a thousand virtual machines, through a gateway that may be killed in the middle."""

import json
import os
import secrets
import signal
import time
import urllib.error
import urllib.request

import pytest
from conftest import Service
from fleetnode import TOKEN, FleetNode

PATIENCE = 240


class FleetGateway:
    """`sallyport serve` with a data folder that outlives it."""

    def __init__(self, folder, node, rules=""):
        self.folder = folder / secrets.token_hex(4)
        self.folder.mkdir()
        self.key = secrets.token_urlsafe(32)
        key = self.folder / "key"
        key.write_text(self.key)
        token = self.folder / "token"
        token.write_text(TOKEN[1])
        for file in (key, token):
            file.chmod(0o600)
        self.config = self.folder / "sallyport.yaml"
        self.config.write_text(
            f"listen: \"127.0.0.1:0\"\n"
            f"apiKeys: [{{ name: fleet, keyFile: \"{key}\"{rules} }}]\n"
            f"exec: {{ dataFolder: \"{self.folder}/jobs\" }}\n"
            "clusters:\n"
            "  - name: test\n"
            f"    hosts: [\"127.0.0.1:{node.port}\"]\n"
            f"    token: {{ id: \"{TOKEN[0]}\", secretFile: \"{token}\" }}\n"
            "    tls: { plaintext: true }\n"
            "    exec: { transports: [agent] }\n")
        self.start()

    def start(self):
        self.service = Service("serve", "--config", str(self.config), "--json")
        self.url = self.service.card["url"]

    def call(self, method, path, body=None, headers=None):
        request = urllib.request.Request(
            self.url + path, method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                text = response.read()
                return response.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text else None

    def order(self, **fields):
        status, answer = self.call("POST", "/v1/fleet", fields)
        assert status == 201, answer
        return answer["id"]

    def ended(self, identity):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            fleet = self.call("GET", f"/v1/fleet/{identity}")[1]
            if fleet["state"] == "ended":
                return fleet
            time.sleep(0.25)
        raise AssertionError(f"not over: {fleet}")

    def targets(self, identity, query=""):
        out, after = [], -1
        while after is not None:
            status, page = self.call("GET", f"/v1/fleet/{identity}/targets?limit=300&after={after}{query}")
            assert status == 200, page
            out += page["targets"]
            after = page["next"]
        return out

    def cpu(self):
        """Seconds of processor time that the gateway has used."""
        with open(f"/proc/{self.service.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def ran(folder):
    """A folder in which each run of a command leaves a line for its guest."""
    place = folder / f"ran-{secrets.token_hex(4)}"
    place.mkdir()
    return place


@pytest.fixture
def node(ran):
    served = FleetNode(environment={"RAN": str(ran)})
    yield served
    served.stop()


@pytest.fixture
def fleet(node, folder):
    gateway = FleetGateway(folder, node)
    yield gateway
    assert gateway.service.stop() == 0, gateway.service.log


NOTE = "echo run >> \"$RAN/$GUEST\"; echo \"hello from $GUEST\""


def runs(ran):
    return {int(file.name): file.read_text().count("run") for file in ran.iterdir() if file.name.isdigit()}


def test_a_thousand_targets_at_fifty_at_a_time(fleet, node, ran):
    begun, cpu = time.monotonic(), fleet.cpu()
    identity = fleet.order(select="tag=fleet", shell=NOTE + "; sleep 0.2", concurrency=50, timeLimit=120)
    result = fleet.ended(identity)
    wall, used = time.monotonic() - begun, fleet.cpu() - cpu
    assert result["end"] == "completed" and result["succeeded"], result
    assert result["targets"]["succeeded"] == 1000
    assert runs(ran) == {vmid: 1 for vmid in node.guests}
    assert node.most <= 50
    print(f"\n1000 targets at 50 at a time: {wall:.1f} s, gateway {used:.1f} CPU s = {used / wall:.2f} cores, "
          f"{node.asked} calls, at most {node.most} at a time")
    assert used < wall, "the gateway needs more than one core"
    some = fleet.targets(identity)
    assert [t["index"] for t in some] == list(range(1000))
    job = fleet.call("GET", f"/v1/exec/{some[7]['job']}")[1]
    assert job["fleet"] == identity and job["end"] == {"kind": "exited", "code": 0}


def test_a_canary_that_fails_stops_the_rest(fleet, node, ran):
    identity = fleet.order(select="tag=even", shell=NOTE + "; exit 3", canary="1%", concurrency=50)
    result = fleet.ended(identity)
    assert result["end"] == "canary-failed" and not result["succeeded"]
    done = fleet.targets(identity, "&state=failed")
    assert 1 <= len(done) <= 5 and all(t["canary"] and t["end"] == {"kind": "exited", "code": 3} for t in done)
    assert set(runs(ran)) == {int(t["target"].split("/")[1]) for t in done}
    assert result["targets"]["skipped"] == 500 - len(done)


def test_the_budget_is_borne_and_no_more(fleet, node, ran):
    identity = fleet.order(
        select={"pool": "lower"}, shell=NOTE + "; test $((GUEST % 5)) -ne 0", failureBudget=10, concurrency=4)
    result = fleet.ended(identity)
    assert result["end"] == "budget-exceeded"
    # The eleventh failure stops it; up to three more were running then.
    assert 11 <= result["targets"]["failed"] <= 14
    assert sum(runs(ran).values()) == result["targets"]["failed"] + result["targets"]["succeeded"]
    assert result["targets"]["skipped"] > 400


def test_only_the_failed_run_again(fleet, node, ran):
    identity = fleet.order(
        select="vmid=100-199", shell=NOTE + "; test -e \"$RAN/mended\" || test $((GUEST % 10)) -ne 0",
        concurrency=20)
    first = fleet.ended(identity)
    assert first["end"] == "completed" and first["targets"]["failed"] == 10
    before = runs(ran)
    (ran / "mended").touch()
    status, again = fleet.call("POST", f"/v1/fleet/{identity}/rerun", {"only": "failed"}, {"Idempotency-Key": "once"})
    assert status == 201 and again["rerunOf"] == identity and again["targets"]["total"] == 10
    status, same = fleet.call("POST", f"/v1/fleet/{identity}/rerun", {"only": "failed"}, {"Idempotency-Key": "once"})
    assert status == 200 and same["id"] == again["id"]
    assert fleet.ended(again["id"])["succeeded"]
    after = runs(ran)
    assert {vmid for vmid in after if after[vmid] > before[vmid]} == set(range(100, 200, 10))
    assert fleet.call("POST", f"/v1/fleet/{again['id']}/rerun", {"only": "failed"})[0] == 422


def test_kill_9_midway_and_on_it_goes(fleet, node, ran):
    identity = fleet.order(select="tag=fleet", shell=NOTE + "; sleep 0.5", concurrency=50, timeLimit=120)
    deadline = time.monotonic() + PATIENCE
    while len(runs(ran)) < 300 and time.monotonic() < deadline:
        time.sleep(0.05)
    fleet.service.process.send_signal(signal.SIGKILL)
    fleet.service.process.wait()
    killed = len(runs(ran))
    assert 300 <= killed < 1000
    fleet.start()
    result = fleet.ended(identity)
    counts = result["targets"]
    assert result["end"] == "completed"
    assert counts["succeeded"] + counts["lost"] == 1000, counts
    # At most once, whatever happened; and what is said to have succeeded has run.
    times = runs(ran)
    assert max(times.values()) == 1
    for target in fleet.targets(identity):
        if target["state"] == "succeeded":
            assert times[int(target["target"].split("/")[1])] == 1
        else:
            assert target["end"]["kind"] == "lost" and target["end"]["why"]
    # No more than what was under way when it was killed can be lost.
    assert counts["lost"] <= 50
    print(f"\nkilled after {killed}: {counts}")


def test_events_go_on_where_they_were_left(fleet, node):
    identity = fleet.order(select="vmid=100-119", argv=["true"], concurrency=5)

    def events(last=None):
        headers = {"Authorization": f"Bearer {fleet.key}", "Accept": "text/event-stream"}
        if last is not None:
            headers["Last-Event-ID"] = str(last)
        request = urllib.request.Request(fleet.url + f"/v1/fleet/{identity}/events", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            event = {}
            for line in response:
                line = line.decode().rstrip("\n")
                if not line and "data" in event:
                    yield int(event["id"]), event["event"], json.loads(event["data"])
                    event = {}
                elif line and not line.startswith(":"):
                    name, _, value = line.partition(": ")
                    event[name] = value

    first = []
    for event in events():
        first.append(event)
        if len(first) == 25:
            break
    rest = list(events(first[-1][0]))
    everything = first + rest
    numbers = [number for number, _, _ in everything]
    assert numbers == sorted(set(numbers))
    last = {data["index"]: data["state"] for _, kind, data in everything if kind == "target"}
    assert last == {i: "succeeded" for i in range(20)}
    assert everything[-1][1] == "fleet" and everything[-1][2]["end"] == "completed"
    assert list(events(everything[-1][0])) == []
    # Of one that is over, the newest of each target is told from the store.
    again = list(events())
    assert len(again) == 21 and {d["index"] for _, kind, d in again if kind == "target"} == set(range(20))


def test_cancelled_and_forgotten(fleet, node, ran):
    identity = fleet.order(select="all", shell=NOTE + "; sleep 30", concurrency=10)
    deadline = time.monotonic() + PATIENCE
    while len(runs(ran)) < 10 and time.monotonic() < deadline:
        time.sleep(0.1)
    status, answer = fleet.call("DELETE", f"/v1/fleet/{identity}")
    assert status == 202 and answer["stopped"] == "cancelled"
    result = fleet.ended(identity)
    assert result["end"] == "cancelled" and result["targets"]["skipped"] == 990
    assert fleet.call("DELETE", f"/v1/fleet/{identity}")[0] == 204
    assert fleet.call("GET", f"/v1/fleet/{identity}")[0] == 404


def test_what_would_be_done(fleet, node):
    status, answer = fleet.call("POST", "/v1/fleet", {
        "select": "vmid=100-109 and not vmid=105", "argv": ["true"], "canary": 2, "dryRun": True})
    assert status == 200 and answer["total"] == 9 and answer["canaries"] == 2
    assert answer["transports"] == {"agent": 9}
    assert sum(t["canary"] for t in answer["targets"]) == 2 and not node.running


@pytest.mark.parametrize("fields, status, kind, field", [
    ({"argv": ["true"]}, 400, "missing-field", "select"),
    ({"select": "tag=", "argv": ["true"]}, 400, "bad-selector", "select"),
    ({"select": "tag=nothing", "argv": ["true"]}, 422, "empty-selection", "select"),
    ({"select": "qemu/99999", "argv": ["true"]}, 404, "no-such-target", "select"),
    ({"select": "all"}, 400, None, None),
    ({"select": "all", "argv": []}, None, None, None),
    ({"select": "all", "argv": ["true"], "stdin": True}, 422, "unsupported", "stdin"),
    ({"select": "all", "argv": ["true"], "terminal": True}, 422, "unsupported", "terminal"),
    ({"select": "all", "argv": ["true"], "canary": 0}, 422, "out-of-range", "canary"),
    ({"select": "all", "argv": ["true"], "canary": "5"}, 400, "wrong-type", "canary"),
    ({"select": "all", "argv": ["true"], "failureBudget": "120%"}, 400, "wrong-type", "failureBudget"),
    ({"select": "all", "argv": ["true"], "concurrency": 0}, 422, "out-of-range", "concurrency"),
    ({"select": "all", "argv": ["true"], "onBudget": "explode"}, 400, "bad-value", "onBudget"),
    ({"select": "all", "argv": ["true"], "colour": "red"}, 400, "unknown-field", "colour"),
])
def test_orders_that_are_refused(fleet, node, fields, status, kind, field):
    got, answer = fleet.call("POST", "/v1/fleet", fields)
    assert got == status or (status is None and 400 <= got < 500), answer
    assert answer.get("remedy")
    if kind:
        assert (answer["type"], answer.get("field")) == (f"about:blank#{kind}", field)
    assert not node.running


def test_a_key_runs_what_its_rules_allow_and_nothing_else(folder, node, ran):
    gateway = FleetGateway(folder, node, ", exec: { targets: [\"pool=lower\"], argv: [[echo, \"[a-z]+\"]], timeLimit: 60 }")
    try:
        allowed = gateway.order(select="vmid=100-104", argv=["echo", "hi"])
        assert gateway.ended(allowed)["succeeded"]
        for fields, rule in [
            ({"select": "vmid=598-602", "argv": ["echo", "hi"]}, "exec.targets"),
            ({"select": "qemu/100", "argv": ["echo", "hi\nthere"]}, "exec.argv"),
            ({"select": "qemu/100", "argv": ["echo"]}, "exec.argv"),
            ({"select": "qemu/100", "argv": ["reboot"]}, "exec.argv"),
            ({"select": "qemu/100", "shell": "echo hi"}, "exec.shell"),
            ({"select": "qemu/100", "argv": ["echo", "hi"], "timeLimit": 61}, "exec.timeLimit"),
            ({"select": "qemu/100", "argv": ["echo", "hi"], "environment": {"LD_PRELOAD": "x"}}, "exec.environment"),
        ]:
            status, answer = gateway.call("POST", "/v1/fleet", fields)
            assert status == 403 and answer["rule"] == rule, answer
            assert "lower" not in json.dumps(answer) and "[a-z]" not in json.dumps(answer)
            single = {k: v for k, v in fields.items() if k != "select"} | {"target": "qemu/700" if rule == "exec.targets" else "qemu/100"}
            status, answer = gateway.call("POST", "/v1/exec", single)
            assert status == 403 and answer["rule"] == rule, answer
    finally:
        assert gateway.service.stop() == 0
