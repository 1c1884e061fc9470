#!/usr/bin/env python3
"""Times commands by transport, beside the same API calls and ssh by hand, and a fleet. See Benchmarks/README.md."""

import argparse
import http.client
import json
import os
import platform
import pwd
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

from runner import report
from runner.processes import Failure, TICK, free_port, start, stop, stop_all, tail, tree, wait_for_port
from runner.results import Results
from runner.targets import Verdict

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TRANSPORTS = (
    ("agent-by-hand", "agent calls by hand"), ("agent-plain", "agent, plain"),
    ("agent-streaming", "agent, streaming"), ("shell-node", "shell, node"),
    ("shell-container", "shell, container"), ("ssh-by-hand", "ssh by hand"), ("ssh", "ssh"),
    ("local", "local"))
# Plain mode holds 16 MiB.
NO_OUTPUT = ("agent-plain",)
# Two VMs and two containers for each node of a seeded cluster would do; these are the demo's.
VM, CONTAINER = 100, 200


class Contender:
    def __init__(self, name, label):
        self.name, self.label = name, label


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run")
    parser.add_argument("--repetitions", type=int, help="of everything (default 3)")
    parser.add_argument("--rounds", type=int, help="of `true`, each repetition (default 50)")
    parser.add_argument("--mebibytes", type=int, help="of output (default 100)")
    parser.add_argument("--fleet", type=int, help="targets of the fleet (default 1000; 0 for none)")
    parser.add_argument("--concurrency", type=int, default=50, help="of the fleet (default 50)")
    parser.add_argument(
        "--transports", default=",".join(name for name, _ in TRANSPORTS),
        help="which to measure (default: %(default)s)")
    parser.add_argument("--release", default=os.path.join(ROOT, ".build", "release"),
                        help="the folder of the programs to measure")
    parser.add_argument("--json", default=os.path.join(ROOT, "artefacts", "bench-exec.json"))
    parser.add_argument("--strict", action="store_true", help="exit 1 unless every target is met")
    chosen = parser.parse_args()
    for name, usual, quick in (
            ("repetitions", 3, 1), ("rounds", 50, 5), ("mebibytes", 100, 4), ("fleet", 1000, 50)):
        if getattr(chosen, name) is None:
            setattr(chosen, name, quick if chosen.quick else usual)
    return chosen


def node(chosen, directory, name, *flags):
    """A simulated node of its own: the process, and what it says of itself."""
    log = os.path.join(directory, f"{name}.log")
    process = start(
        [os.path.join(chosen.release, "sallyport"), "node", "--json", *flags], log,
        stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line:
        raise Failure(f"the node ended at its start: {tail(log)}")
    return process, json.loads(line)


def sshd(directory):
    """An OpenSSH server on loopback with keys of its own; None where there is none."""
    server = shutil.which("sshd") or "/usr/sbin/sshd"
    if not (os.path.exists(server) and shutil.which("ssh") and shutil.which("ssh-keygen")):
        return None
    os.makedirs("/run/sshd", exist_ok=True) if os.getuid() == 0 else None
    for key in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", os.path.join(directory, key)],
            check=True)
    shutil.copy(os.path.join(directory, "user.pub"), os.path.join(directory, "authorized"))
    port = free_port()
    with open(os.path.join(directory, "known"), "w") as file:
        host_key = open(os.path.join(directory, "host.pub")).read().split()
        file.write(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    config = os.path.join(directory, "sshd_config")
    with open(config, "w") as file:
        file.write(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nPidFile none\n"
            f"AuthorizedKeysFile {directory}/authorized\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\nMaxSessions 100\n")
    process = start([server, "-D", "-e", "-f", config], os.path.join(directory, "sshd.log"))
    wait_for_port(port, process, "sshd")
    return {
        "port": port, "user": pwd.getpwuid(os.getuid()).pw_name,
        "identityFile": os.path.join(directory, "user"),
        "knownHostsFile": os.path.join(directory, "known")}


def cases(chosen, card, ssh, names, directory, timeout=900):
    """Runs the cases of one repetition; yields what each line of the program says."""
    settings = {
        "host": f"127.0.0.1:{card['port']}", "fingerprint": card["fingerprint"],
        "tokenID": card["token"]["id"], "tokenSecret": card["token"]["secret"],
        "password": card["users"]["root@pam"], "vm": VM, "container": CONTAINER,
        "node": card["node"], "rounds": chosen.rounds, "mebibytes": chosen.mebibytes,
        "cases": names, "ssh": ssh}
    log = os.path.join(directory, "exec-bench.log")
    process = start(
        [os.path.join(chosen.release, "exec-bench")], log, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True)
    try:
        answer, _ = process.communicate(json.dumps(settings), timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failure(f"exec-bench did not end in {timeout} seconds")
    finally:
        stop(process)
    if process.returncode != 0:
        raise Failure(f"exec-bench: {tail(log)}")
    return [json.loads(line) for line in answer.splitlines()]


def cpu_seconds(pid):
    total = 0
    for each in tree(pid):
        with open(f"/proc/{each}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def call(base, key, method, path, body=None):
    request = urllib.request.Request(
        base + path, method=method, data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"{}")


def with_agents(card, guests, count):
    """So many of the VMs whose configuration has a guest agent."""
    context = ssl.create_default_context(cadata=card["ca"])
    context.check_hostname = False
    headers = {"Authorization": f"PVEAPIToken={card['token']['id']}={card['token']['secret']}"}
    connection, found = None, []
    for guest in guests:
        path = f"/api2/json/nodes/{guest['node']}/qemu/{guest['vmid']}/config"
        # A kept connection ends after a hundred requests.
        for attempt in range(2):
            connection = connection or http.client.HTTPSConnection(
                "127.0.0.1", card["port"], timeout=30, context=context)
            try:
                connection.request("GET", path, headers=headers)
                answer = json.loads(connection.getresponse().read())
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
                if attempt:
                    raise
        if str((answer["data"] or {}).get("agent", "0")).startswith(("1", "enabled=1")):
            found.append(f"qemu/{guest['vmid']}")
            if len(found) == count:
                return found
    raise Failure(f"the seeded cluster has {len(found)} running VMs with an agent")


def fleet(chosen, directory):
    """`true` on very many VMs at once, through a gateway: seconds, and the gateway's processor time."""
    process, card = node(
        chosen, directory, "fleet-node", "--seed", "11", "--nodes", "4",
        "--guests", str(chosen.fleet * 4))
    port, key = free_port(), "bench-key-" + os.urandom(16).hex()
    config = os.path.join(directory, "fleet.yaml")
    with open(config, "w") as file:
        file.write(
            f"listen: 127.0.0.1:{port}\napiKeys:\n  - {{name: bench, keyEnvironment: BENCH_KEY}}\n"
            f"exec: {{dataFolder: {directory}/jobs, maximumJobs: 2000}}\n"
            f"clusters:\n  - name: bench\n    hosts: [\"127.0.0.1:{card['port']}\"]\n"
            f"    token: {{id: \"{card['token']['id']}\", secretEnvironment: BENCH_SECRET}}\n"
            f"    tls: {{fingerprint: \"{card['fingerprint']}\"}}\n")
    gateway = start(
        [os.path.join(chosen.release, "sallyport"), "serve", "--config", config],
        os.path.join(directory, "gateway.log"),
        env={**os.environ, "BENCH_KEY": key, "BENCH_SECRET": card["token"]["secret"]})
    wait_for_port(port, gateway, "the gateway")
    base = f"http://127.0.0.1:{port}"
    try:
        inventory = call(base, key, "GET", "/v1/inventory")["clusters"][0]["guests"]
        targets = with_agents(card, [
            guest for guest in inventory
            if guest["type"] == "qemu" and guest["status"] == "running" and not guest["template"]],
            chosen.fleet)
        before, began = cpu_seconds(gateway.pid), time.perf_counter()
        order = call(base, key, "POST", "/v1/fleet", {
            "select": {"targets": targets}, "argv": ["/bin/true"],
            "concurrency": chosen.concurrency, "failureBudget": chosen.fleet})
        while True:
            state = call(base, key, "GET", f"/v1/fleet/{order['id']}")
            if state["state"] == "ended":
                break
            time.sleep(0.2)
        seconds = time.perf_counter() - began
        good = state["targets"]["succeeded"]
        return {
            "seconds": seconds, "rate": chosen.fleet / seconds,
            "cores": (cpu_seconds(gateway.pid) - before) / seconds, "good": good}
    finally:
        stop(gateway)
        stop(process)


def run(chosen, directory, contenders):
    results = Results()
    ssh = sshd(directory)
    if ssh is None:
        print("without ssh: there is no sshd (Debian's openssh-server)")
    process, card = node(chosen, directory, "node")
    by_name = {contender.name: contender for contender in contenders}
    for repetition in range(chosen.repetitions):
        print(f"repetition {repetition + 1} of {chosen.repetitions}", flush=True)
        turn = repetition % len(contenders)
        names = []
        for contender in contenders[turn:] + contenders[:turn]:
            if "ssh" in contender.name and ssh is None:
                continue
            names.append(f"true-{contender.name}")
            if contender.name not in NO_OUTPUT:
                names.append(f"output-{contender.name}")
        times = {}
        for row in cases(chosen, card, ssh, names, directory):
            load, name = row["case"].split("-", 1)
            if "failure" in row:
                results.add_failure(load, by_name[name], row["failure"])
            elif load == "true":
                times.setdefault(name, []).append(row["ms"])
            else:
                results.add(load, by_name[name], row)
        for name, all_times in times.items():
            all_times.sort()
            results.add("true", by_name[name], {
                "p50": all_times[len(all_times) // 2],
                "p99": all_times[min(len(all_times) - 1, len(all_times) * 99 // 100)]})
    stop(process)
    if chosen.fleet:
        whole = Contender("fleet", f"fleet of {chosen.fleet}")
        for _ in range(chosen.repetitions):
            try:
                results.add("fleet", whole, fleet(chosen, directory))
            except (Failure, OSError, KeyError) as failure:
                results.add_failure("fleet", whole, str(failure))
    return results


def verdicts(results, chosen):
    found = [
        Verdict("agent plain over the calls by hand, `true` p50",
                results.ratio("true", "agent-plain", "true", "agent-by-hand", "p50"), 1.15)]
    if chosen.fleet:
        found.append(Verdict("fleet: cores of the gateway", results.spread("fleet", "fleet", "cores"), 1))
        found.append(Verdict(
            "fleet: targets that succeeded", results.spread("fleet", "fleet", "good"), chosen.fleet, True))
    return found


def main():
    chosen = options()
    labels = dict(TRANSPORTS)
    wanted = chosen.transports.split(",")
    unknown = [name for name in wanted if name not in labels]
    if unknown:
        sys.exit(f"no transport is called {unknown[0]}; there are {', '.join(labels)}")
    contenders = [Contender(name, labels[name]) for name in wanted]
    load_average = os.getloadavg()[0]
    started = time.time()
    directory = tempfile.mkdtemp(prefix="sallyport-exec-bench-")
    try:
        results = run(chosen, directory, contenders)
    except Failure as failure:
        sys.exit(f"exec.py: {failure}")
    finally:
        stop_all()
        shutil.rmtree(directory, ignore_errors=True)
    found = verdicts(results, chosen)
    facts = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started), "cores": os.cpu_count(),
        "kernel": platform.release(), "load_average_before": load_average,
        "options": {k: v for k, v in vars(chosen).items() if k not in ("json", "release")}}
    if load_average > 0.5:
        print(f"\nThis machine was busy before the run (load average {load_average:.1f}): "
              "don't compare these numbers.")
    print(f"\n{facts['cores']} cores, Linux {facts['kernel']}, {facts['seconds']} s; "
          "medians (least–greatest)\n")
    rows = [
        [contender.label, *(report.cell(results.spread(load, contender.name, field), digits)
                            for load, field, digits in (
                                ("true", "p50", 1), ("true", "p99", 1), ("output", "rate", 1)))]
        for contender in contenders]
    print(report.table("Commands", rows, ["", "`true` p50 ms", "p99 ms", "output MiB/s"]))
    if chosen.fleet:
        rows = [[f"{chosen.fleet} VMs, {chosen.concurrency} at a time", *(
            report.cell(results.spread("fleet", "fleet", field), digits)
            for field, digits in (("seconds", 1), ("rate", 0), ("cores", 2), ("good", 0)))]]
        print(report.table("Fleet", rows, ["", "seconds", "targets/s", "gateway's cores", "succeeded"]))
    print(report.failures(results), end="")
    print(report.targets(found))
    report.write_json(chosen.json, results, found, facts)
    print(f"all samples: {os.path.relpath(chosen.json)}")
    if chosen.strict and not all(verdict.met for verdict in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
