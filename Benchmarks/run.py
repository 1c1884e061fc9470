#!/usr/bin/env python3
"""Compares Sallyport's relay with other proxies, in one run. See Benchmarks/README.md."""

import argparse
import os
import platform
import resource
import shutil
import signal
import sys
import tempfile
import time

from runner import build, field, peers, report, targets
from runner.measure import MIB, Meter
from runner.processes import Failure, stop_all
from runner.results import Results

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PROXIES = ("direct", "sallyport", "haproxy", "nginx", "nginx-64k", "websockify")
BUSY_SESSIONS = 8
BUSY_RATE = 32 * MIB
DESCRIPTORS = 16384
BUSY_MACHINE = 0.5  # a load average over this spoils the numbers


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: one short repetition")
    parser.add_argument("--repetitions", type=int, help="of everything but memory (default 5)")
    parser.add_argument("--size", type=int, help="MiB of each transfer (default 1024)")
    parser.add_argument("--trips", type=int, help="round trips of a sample (default 5000)")
    parser.add_argument("--idle", type=int, help="idle sessions for the memory (default 1000)")
    parser.add_argument(
        "--held", type=int, help="idle sessions that Sallyport is to hold (default 5000)")
    parser.add_argument(
        "--proxies", default=",".join(PROXIES), help="which to compare (default: %(default)s)")
    parser.add_argument(
        "--loads", default="throughput,trips,memory,held",
        help="which groups of loads (default: %(default)s)")
    parser.add_argument(
        "--sallyport", default=os.path.join(ROOT, ".build", "release", "sallyport"),
        help="the program to measure (default: the release build)")
    parser.add_argument("--json", default=os.path.join(ROOT, "artefacts", "bench.json"))
    parser.add_argument("--strict", action="store_true", help="exit 1 unless every target is met")
    chosen = parser.parse_args()
    for name, usual, quick in (
            ("repetitions", 5, 1), ("size", 1024, 128), ("trips", 5000, 500),
            ("idle", 1000, 100), ("held", 5000, 200)):
        if getattr(chosen, name) is None:
            setattr(chosen, name, quick if chosen.quick else usual)
    return chosen


def available(chosen, directory):
    """The proxies that can run here, and their programs; says what is left out and why."""
    paths, versions, names = {"sallyport": chosen.sallyport}, {}, []
    commands = {
        "sallyport": [chosen.sallyport, "--version"], "haproxy": ["haproxy", "-v"],
        "nginx": ["nginx", "-v"], "nginx-64k": ["nginx", "-v"]}
    for name in chosen.proxies.split(","):
        if name == "websockify":
            try:
                paths[name] = build.install_websockify(directory)
                versions[name] = "websockify 0.13.0"
            except Failure as failure:
                print(f"without websockify: {failure}")
                continue
        elif name in commands:
            versions[name] = peers.version_of(commands[name])
            if versions[name] is None:
                print(f"without {name}: {commands[name][0]} is not installed or not built")
                continue
        elif name != "direct":
            raise Failure(f"no proxy is called {name}; there are {', '.join(PROXIES)}")
        names.append(name)
    return names, paths, versions


class Run:
    """The order of a run: contenders inside, so that a slow minute hits all alike."""

    def __init__(self, chosen, meter, contenders):
        self.chosen, self.meter, self.contenders = chosen, meter, contenders
        self.results = Results()

    def _each(self, load, repetition, measure, contenders):
        turn = repetition % len(contenders) if contenders else 0
        for contender in contenders[turn:] + contenders[:turn]:
            try:
                self.results.add(load, contender, measure(contender))
            except (Failure, OSError) as failure:
                self.results.add_failure(load, contender, str(failure))
                print(f"  {load}, {contender.name}: {failure}", flush=True)

    def throughput(self, repetition):
        for direction in ("down", "up"):
            for sessions in (1, 8):
                self._each(
                    f"{direction}-{sessions}", repetition,
                    lambda c: self.meter.throughput(c, direction, sessions, self._size(c)),
                    self.contenders)

    def _size(self, contender):
        slow = contender.proxy == "websockify"
        return self.chosen.size * MIB // (2 if slow else 1)

    def round_trips(self, repetition):
        trips = self.chosen.trips
        self._each("echo", repetition, lambda c: self.meter.round_trips(c, trips), self.contenders)
        some = [c for c in self.contenders if c.proxy != "websockify"]
        quiet, loads = self.meter.quiet, (
            ("quiet-alone", 0, 0), ("quiet-beside-8", BUSY_SESSIONS, BUSY_RATE),
            ("quiet-flat-out", BUSY_SESSIONS, 0))
        for load, busy, rate in loads:
            self._each(load, repetition, lambda c: quiet(c, trips // 5, busy, rate), some)

    def memory(self):
        # A process for each session of websockify: few are enough to see its price.
        count = lambda c: 20 if c.proxy == "websockify" else self.chosen.idle
        some = [c for c in self.contenders if c.process]
        self._each("idle", 0, lambda c: self.meter.idle(c, count(c)), some)
        used = 256 * 1024
        self._each("idle-used", 0, lambda c: self.meter.idle(c, count(c), used=used), some)

    def held(self):
        # Longer than the interval of Sallyport's websocket pings (25 s), so that they are answered
        # too.
        hold = 1 if self.chosen.quick else 30
        some = [c for c in self.contenders if c.proxy == "sallyport" and c.threads == 2]
        self._each("held", 0, lambda c: self.meter.idle(c, self.chosen.held, hold=hold), some)

    def all(self):
        loads = self.chosen.loads.split(",")
        for repetition in range(self.chosen.repetitions):
            print(f"repetition {repetition + 1} of {self.chosen.repetitions}", flush=True)
            if "throughput" in loads:
                self.throughput(repetition)
            if "trips" in loads:
                self.round_trips(repetition)
        if "memory" in loads:
            print("memory of idle sessions", flush=True)
            self.memory()
        if "held" in loads:
            print(f"{self.chosen.held} idle sessions", flush=True)
            self.held()


def raise_descriptor_limit():
    """A proxy needs two descriptors for each session; the children inherit the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most >= DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, most))
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        print(f"only {most} files may be open: too few to hold 5,000 sessions ({DESCRIPTORS})")


def measure(chosen, directory, build_directory):
    load_average = os.getloadavg()[0]
    busy = load_average > BUSY_MACHINE
    names, paths, versions = available(chosen, build_directory)
    programs = build.compile_load(os.path.join(HERE, "load"), build_directory)
    certificate, key = build.make_certificate(directory)
    backends = {
        upstream: field.launch_backend(
            programs["backend"], directory, upstream, certificate, key)
        for upstream in field.UPSTREAMS}
    contenders = field.contenders(names, backends, paths, directory)
    for contender in contenders:
        contender.launch()
    meter = Meter(programs["generator"], os.path.join(directory, "generator.log"), seconds=60)
    run = Run(chosen, meter, contenders)
    started = time.time()
    run.all()

    found = targets.verdicts(run.results, chosen.held) if "sallyport" in names else []
    facts = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started), "cores": os.cpu_count(),
        "kernel": platform.release(), "load_average_before": load_average, "versions": versions,
        "options": {k: v for k, v in vars(chosen).items() if k not in ("json", "sallyport")}}
    if busy:
        print(f"\nThis machine was busy before the run (load average {load_average:.1f}): "
              "don't compare these numbers.")
    print(f"\n{facts['cores']} cores, Linux {facts['kernel']}, {facts['seconds']} s; "
          "medians (least–greatest); the number behind a name is its loops, threads or workers\n")
    print(report.tables(run.results, contenders))
    print(report.failures(run.results), end="")
    if found:
        print(report.targets(found))
    report.write_json(chosen.json, run.results, found, facts)
    print(f"all samples: {os.path.relpath(chosen.json)}")
    return all(verdict.met for verdict in found)


def main():
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_descriptor_limit()
    os.environ["PATH"] += ":/usr/sbin"  # where Debian has the proxies
    build_directory = os.path.join(ROOT, ".build-bench")
    os.makedirs(build_directory, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="sallyport-bench-")
    try:
        all_met = measure(chosen, directory, build_directory)
    except Failure as failure:
        print(f"bench: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        stop_all()
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if chosen.strict and not all_met else 0


if __name__ == "__main__":
    sys.exit(main())
