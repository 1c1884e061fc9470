#!/usr/bin/env python3
"""Compares Sallyport's simulated node with other simulators, in one run. See Benchmarks/README.md."""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from runner import build, nodes, report
from runner.processes import Failure, start, stop, stop_all, tail
from runner.results import Results
from runner.targets import Verdict

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
CONNECTIONS = (1, 32)
VERSION = "/api2/json/version"
GUESTS = "/api2/json/cluster/resources?type=vm"
COLUMNS = (
    ("requests/s, 1 connection", "version-1", "rate", 0), ("p50 us", "version-1", "p50", 0),
    ("p99 us", "version-1", "p99", 0), ("requests/s, 32", "version-32", "rate", 0),
    ("p50 us", "version-32", "p50", 0), ("p99 us", "version-32", "p99", 0))
OTHER_COLUMNS = (
    ("ready, s", "ready", "seconds", 3), ("MiB at start", "memory", "start", 1),
    ("MiB after use", "memory", "used", 1), ("guests listed in ms", "list", "p50", 1),
    ("p99 ms", "list", "p99", 1), ("list, MiB", "list", "size", 2))


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: one short repetition")
    parser.add_argument("--repetitions", type=int, help="of everything (default 5)")
    parser.add_argument("--seconds", type=float, help="of each load (default 5)")
    parser.add_argument("--guests", type=int, default=10_000, help="to list (default 10000)")
    parser.add_argument(
        "--nodes", default=",".join(nodes.KINDS), help="which to compare (default: %(default)s)")
    parser.add_argument(
        "--sallyport", default=os.path.join(ROOT, ".build", "release", "sallyport"),
        help="the program to measure (default: the release build)")
    parser.add_argument("--json", default=os.path.join(ROOT, "artefacts", "bench-node.json"))
    parser.add_argument("--strict", action="store_true", help="exit 1 unless every target is met")
    chosen = parser.parse_args()
    for name, usual, quick in (("repetitions", 5, 1), ("seconds", 5, 1)):
        if getattr(chosen, name) is None:
            setattr(chosen, name, quick if chosen.quick else usual)
    return chosen


def available(chosen, directory):
    """The nodes that can run here, and what they need; says what is left out and why."""
    programs, names = {"sallyport": chosen.sallyport}, []
    for name in chosen.nodes.split(","):
        if name not in nodes.KINDS:
            raise Failure(f"no node is called {name}; there are {', '.join(nodes.KINDS)}")
        if name in nodes.PACKAGES:
            try:
                programs[name] = build.install(directory, name, nodes.PACKAGES[name])
            except Failure as failure:
                print(f"without {name}: {failure}")
                continue
        names.append(name)
    return names, programs


class Meter:
    """Takes samples with the load generator."""

    def __init__(self, generator, directory):
        self.generator, self.log = generator, os.path.join(directory, "requests.log")

    def load(self, node, path, **wanted):
        command = [self.generator, "--port", str(node.port), "--request", node.request(path)]
        command += ["--tls"] if node.tls else []
        for name, value in wanted.items():
            command += [f"--{name}", str(value)]
        open(self.log, "w").close()
        process = start(command, self.log, stdout=subprocess.PIPE, text=True)
        try:
            answer, _ = process.communicate(timeout=180)
        except subprocess.TimeoutExpired:
            raise Failure("the load did not end in three minutes")
        finally:
            stop(process)
        if process.returncode != 0:
            raise Failure(f"{node.name}: {tail(self.log)}")
        return json.loads(answer)

    def version(self, node, connections, seconds):
        answer = self.load(node, VERSION, connections=connections, seconds=seconds)
        return {
            "rate": answer["requests"] / answer["seconds"], "p50": answer["p50"],
            "p99": answer["p99"],
            "requests_a_connection": answer["requests"] / answer["connections"]}

    def list(self, node, count):
        answer = self.load(node, GUESTS, connections=1, count=count)
        return {
            "p50": answer["p50"] / 1000, "p99": answer["p99"] / 1000,
            "size": answer["bytes"] / answer["requests"] / (1 << 20)}


def run(chosen, contenders, meter):
    results = Results()

    def take(load, node, measure):
        try:
            results.add(load, node, measure())
        except (Failure, OSError, ValueError, KeyError) as failure:
            results.add_failure(load, node, str(failure))
            print(f"  {load}, {node.name}: {failure}", flush=True)

    def once(node):
        take("ready", node, lambda: {"seconds": node.launch()})
        at_start = node.resident_mib()
        # What only the first requests need is not what is measured.
        take("warm-up", node, lambda: meter.version(node, 32, min(1, chosen.seconds)))
        for connections in CONNECTIONS:
            take(f"version-{connections}", node,
                 lambda: meter.version(node, connections, chosen.seconds))
        take("memory", node, lambda: {"start": at_start, "used": node.resident_mib()})
        if node.lists_guests:
            node.launch(chosen.guests)
            take("list", node, lambda: meter.list(node, 5 if chosen.quick else 30))
        node.stop()

    for repetition in range(chosen.repetitions):
        print(f"repetition {repetition + 1} of {chosen.repetitions}", flush=True)
        turn = repetition % len(contenders)
        for node in contenders[turn:] + contenders[:turn]:
            try:
                once(node)
            except (Failure, OSError) as failure:
                print(f"  {node.name}: {failure}", flush=True)
                node.stop()
    return results


def verdicts(results, guests):
    """What Sallyport's node is to reach, and whether it does."""

    def over(load, peer, field):
        return results.ratio(load, "sallyport", load, peer, field)

    found = []
    for connections in CONNECTIONS:
        load, ending = f"version-{connections}", f"{connections} connection"
        ending += "s" if connections > 1 else ""
        found.append(Verdict(
            f"requests/s over the SDK mock's, {ending}", over(load, "sdk-mock", "rate"), 10, True))
        found.append(Verdict(
            f"requests/s over fakepve's, {ending}", over(load, "fakepve", "rate"), 1, True))
    found.append(Verdict("memory after use over fakepve's", over("memory", "fakepve", "used"), 1))
    found.append(Verdict("ready, s", results.spread("ready", "sallyport", "seconds"), 0.25))
    found.append(Verdict(f"{guests} guests listed, ms", results.spread("list", "sallyport", "p50"), 50))
    return found


def tables(results, contenders):
    text = []
    for title, columns in (
            (f"GET {VERSION}, kept connections", COLUMNS), ("Start, memory, long lists", OTHER_COLUMNS)):
        rows = [
            [node.label, *(report.cell(results.spread(load, node.name, field), digits)
                           for _, load, field, digits in columns)]
            for node in contenders]
        text.append(report.table(title, rows, ["", *(column[0] for column in columns)]))
    return "\n".join(text)


def measure(chosen, directory, build_directory):
    load_average = os.getloadavg()[0]
    names, programs = available(chosen, build_directory)
    programs["certificate"] = build.make_certificate(directory)
    generator = build.compile_load(os.path.join(HERE, "load"), build_directory)["requests"]
    contenders = [nodes.KINDS[name](programs, directory) for name in names]
    started = time.time()
    results = run(chosen, contenders, Meter(generator, directory))
    found = verdicts(results, chosen.guests)
    facts = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started), "cores": os.cpu_count(),
        "kernel": platform.release(), "load_average_before": load_average,
        "options": {k: v for k, v in vars(chosen).items() if k not in ("json", "sallyport")}}
    if load_average > 0.5:
        print(f"\nThis machine was busy before the run (load average {load_average:.1f}): "
              "don't compare these numbers.")
    print(f"\n{facts['cores']} cores, Linux {facts['kernel']}, {facts['seconds']} s; "
          "medians (least–greatest)\n")
    print(tables(results, contenders))
    print(report.failures(results), end="")
    print(report.targets(found))
    report.write_json(chosen.json, results, found, facts)
    print(f"all samples: {os.path.relpath(chosen.json)}")
    return all(verdict.met for verdict in found)


def main():
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    build_directory = os.path.join(ROOT, ".build-bench")
    os.makedirs(build_directory, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="sallyport-bench-")
    try:
        all_met = measure(chosen, directory, build_directory)
    except Failure as failure:
        print(f"bench-node: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        stop_all()
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if chosen.strict and not all_met else 0


if __name__ == "__main__":
    sys.exit(main())
