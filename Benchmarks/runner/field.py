"""The field of a run: the backends, and every contender in front of them."""

import json
import os
from dataclasses import dataclass

from . import peers, sallyport
from .processes import Failure, cpu_seconds, memory_kib, start, stop, tail

UPSTREAMS = ("plain", "tls")


@dataclass
class Backend:
    """The node that all contenders of one kind of upstream stand in front of."""
    http: int
    raw: int
    fingerprint: str  # empty: plain
    certificate: str  # PEM path; empty: plain


def launch_backend(program, directory, upstream, certificate, key):
    command = [program]
    if upstream == "tls":
        command += ["--certificate", certificate, "--key", key]
    log = os.path.join(directory, f"backend-{upstream}.log")
    process = start(command, log, stdout=-1, text=True)
    line = process.stdout.readline()
    if not line:
        raise Failure(f"the backend ended at its start: {tail(log)}")
    answer = json.loads(line)
    return Backend(
        answer["http"], answer["raw"], answer["fingerprint"],
        certificate if upstream == "tls" else "")


@dataclass
class Contender:
    """One proxy with a number of threads in front of one kind of upstream."""
    proxy: str      # direct, sallyport, haproxy, nginx, nginx-64k, websockify
    threads: int    # loops, threads or worker processes; 0 where it means nothing
    upstream: str
    launcher: object
    process: object = None
    port: int = 0
    arguments: tuple = ()

    @property
    def name(self):
        threads = f"-{self.threads}" if self.threads else ""
        return f"{self.proxy}{threads}-{self.upstream}"

    def launch(self):
        self.process, self.port, self.arguments = self.launcher(self)

    def stop(self):
        if self.process:
            stop(self.process)
            self.process = None

    def relaunch(self):
        """A fresh process, whose memory nobody has used yet."""
        self.stop()
        self.launch()

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid) if self.process else 0.0

    def memory_kib(self):
        return memory_kib(self.process.pid) if self.process else 0


def contenders(names, backends, programs, directory):
    """All contenders of the named proxies, not yet launched; `programs` has paths by name."""
    launchers = {
        "sallyport": lambda c: sallyport.launch(
            programs["sallyport"], directory, c.name, c.threads, backends[c.upstream]),
        "haproxy": lambda c: peers.launch_haproxy(
            directory, c.name, c.threads, backends[c.upstream]),
        "nginx": lambda c: peers.launch_nginx(directory, c.name, c.threads, backends[c.upstream]),
        "nginx-64k": lambda c: peers.launch_nginx_64k(
            directory, c.name, c.threads, backends[c.upstream]),
        "websockify": lambda c: peers.launch_websockify(
            programs["websockify"], directory, c.name, backends[c.upstream]),
        "direct": lambda c: (None, backends[c.upstream].http, [
            "--path", peers.CONSOLE, *(["--tls"] if c.upstream == "tls" else [])]),
    }
    found = []
    for upstream in UPSTREAMS:
        for threads in (1, 2):
            for name in names:
                scales = name not in ("direct", "websockify")
                if scales or threads == 1:
                    found.append(
                        Contender(name, threads if scales else 0, upstream, launchers[name]))
    return found
