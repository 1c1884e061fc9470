"""Measuring: one load of the generator on one contender."""

import json
import select
import subprocess
import time

from .processes import Failure, start, stop, tail

MIB, GIB = 1 << 20, 1 << 30


class Generator:
    """One run of the generator, led step by step (see load/generator.c)."""

    def __init__(self, program, contender, log, load, **options):
        command = [program, "--port", str(contender.port), *contender.arguments, "--load", load]
        for name, value in options.items():
            command += [f"--{name}", str(int(value))]
        open(log, "w").close()
        self.process = start(command, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.contender = contender

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)

    def line(self, seconds):
        """The generator's next line."""
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            raise Failure(f"nothing within {seconds} s {self._words()}")
        line = self.process.stdout.readline().strip()
        if not line:
            raise Failure(f"generator failed {self._words()}")
        return line

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def _words(self):
        words = tail(self.process.log)
        if self.contender.process and self.contender.process.poll() is not None:
            words += f" | {self.contender.name} has ended: {tail(self.contender.process.log)}"
        return f"({words})"


class Meter:
    """Takes samples with one generator program."""

    def __init__(self, generator, log, seconds):
        self.generator, self.log, self.seconds = generator, log, seconds

    def _run(self, contender, load, **options):
        return Generator(self.generator, contender, self.log, load, **options)

    def throughput(self, contender, direction, sessions, size):
        """MiB/s, and the proxy's CPU seconds per GiB."""
        with self._run(contender, direction, sessions=sessions, bytes=size) as run:
            run.line(self.seconds)
            before = contender.cpu_seconds()
            run.go()
            answer = json.loads(run.line(self.seconds))
            used = contender.cpu_seconds() - before
        size = answer["bytes"]
        return {"rate": size / MIB / answer["seconds"], "cpu": used * GIB / size}

    def round_trips(self, contender, trips):
        """Microseconds of back-to-back round trips."""
        with self._run(contender, "echo", trips=trips) as run:
            run.line(self.seconds)
            run.go()
            answer = json.loads(run.line(self.seconds))
        return {"p50": answer["p50"], "p99": answer["p99"]}

    def quiet(self, contender, trips, busy, rate):
        """Microseconds of round trips with a pause of 1 ms before each.

        Beside them run `busy` streams of `rate` bytes per second each (0: as fast as they go).
        """
        options = {"sessions": busy + 1, "trips": trips, "pause": 1000, "rate": rate}
        with self._run(contender, "quiet", **options) as run:
            run.line(self.seconds)
            run.go()
            answer = json.loads(run.line(self.seconds))
        return {
            "p50": answer["p50"], "p99": answer["p99"],
            "beside": answer["bytes"] / MIB / answer["seconds"]}

    def idle(self, contender, sessions, used=0, hold=1.0):
        """KiB of memory for each idle session, and how many of them live after `hold` seconds.

        The process is a fresh one. Each session first receives `used` bytes.
        """
        contender.relaunch()
        # What only the first sessions allocate is not an idle session's.
        with self._run(contender, "echo", sessions=8, trips=100) as run:
            run.line(self.seconds)
            run.go()
            run.line(self.seconds)
        time.sleep(0.5)
        before = contender.memory_kib()
        limit = self.seconds + sessions / 50
        with self._run(contender, "idle", sessions=sessions, used=used) as run:
            run.line(limit)
            time.sleep(hold)
            memory = contender.memory_kib() - before
            run.go()
            answer = json.loads(run.line(limit))
        return {
            "memory": memory / sessions, "sessions": sessions, "alive": answer["alive"],
            "open_seconds": answer["open_seconds"]}
