"""Starting, watching and ending the processes of a run."""

import ctypes
import os
import signal
import socket
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
_running = []


class Failure(Exception):
    """Something that a run can't do; its text is for the reader of the report."""


def _end_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def start(command, log, **options):
    """Starts a process that logs to the file `log` and ends with this program at the latest."""
    with open(log, "ab") as out:
        options.setdefault("stdout", out)
        process = subprocess.Popen(command, stderr=out, preexec_fn=_end_with_parent, **options)
    process.log = log
    _running.append(process)
    return process


def stop(process):
    """Ends one process, gently first."""
    if process in _running:
        _running.remove(process)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()


def stop_all():
    while _running:
        stop(_running[-1])


def tail(log, lines=2):
    """The last lines of a log file, in one line."""
    try:
        with open(log, errors="replace") as file:
            return " | ".join(line.strip() for line in file.readlines()[-lines:])
    except OSError:
        return ""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process, name, seconds=20):
    """Returns once something accepts connections on the port."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failure(f"{name} ended at its start: {tail(process.log)}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise Failure(f"{name} does not listen: {tail(process.log)}")


def tree(root):
    """The process and its descendants: pid, and the fields of /proc/PID/stat after the name."""
    stats = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    stats[int(entry)] = file.read().rpartition(")")[2].split()
            except OSError:
                pass
    family, grown = {root}, True
    while grown:
        more = {pid for pid, fields in stats.items() if int(fields[1]) in family} - family
        family |= more
        grown = bool(more)
    return {pid: stats[pid] for pid in family if pid in stats}


def cpu_seconds(root):
    """User and system time of the tree, of children that have ended too."""
    return sum(sum(map(int, fields[11:15])) for fields in tree(root).values()) / TICK


def memory_kib(root):
    """Proportional set size of the tree."""
    total = 0
    for pid in tree(root):
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                for line in file:
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        except OSError:
            pass
    return total
