"""sallyport exec over a real OpenSSH server that stands for the node: the node itself, and by its `pct` a container."""

import hashlib
import os
import pathlib
import pwd
import shutil
import socket
import subprocess
import time

import pytest
from conftest import PROGRAM, ROOT, Gateway, clean_environment, cluster_yaml, direct

SSHD = "/usr/sbin/sshd"
pytestmark = pytest.mark.skipif(
    not (os.path.exists(SSHD) and shutil.which("ssh-keygen")), reason="there is no OpenSSH server here")


def run(*arguments, env, input=None, timeout=100):
    given = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run([PROGRAM, *arguments], capture_output=True, timeout=timeout, env=env, cwd=ROOT, **given)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class SSHServer:
    """sshd on a loopback port of its own, with keys of its own; its sessions find the simulated node's tools."""

    def __init__(self, folder, path):
        if os.geteuid() == 0:
            pathlib.Path("/run/sshd").mkdir(exist_ok=True)
        self.folder, self.port = folder, free_port()
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        for name in ["host", "key", "other"]:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "authorized").write_text((folder / "key.pub").read_text())
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {(folder / 'host.pub').read_text()}")
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {folder}/host\n"
            f"AuthorizedKeysFile {folder}/authorized\nPidFile none\nUsePAM no\nStrictModes no\n"
            f"PermitRootLogin yes\nPasswordAuthentication no\nLogLevel VERBOSE\nSetEnv PATH={path}\n")
        self.process = subprocess.Popen(
            [SSHD, "-D", "-f", folder / "config", "-E", folder / "log"], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while "Server listening" not in (folder / "log").read_text() if (folder / "log").exists() else True:
            assert self.process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)

    @property
    def flags(self):
        return ["--ssh-user", self.user, "--ssh-key", str(self.folder / "key"), "--ssh-known-hosts",
                str(self.folder / "known"), "--ssh-port", str(self.port), "--ssh-host", "pve1=127.0.0.1"]

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def straight(node):
    return clean_environment(**direct(node))


@pytest.fixture(scope="module")
def server(straight, tmp_path_factory):
    # The simulated node's own pct: where it is, its shell knows.
    path = run("exec", "node/pve1", "--via", "shell", "--shell", "command -v pct; echo $PATH", env=straight)
    assert path.returncode == 0, path.stderr
    pct, rest = path.stdout.decode().split("\n")[:2]
    server = SSHServer(tmp_path_factory.mktemp("sshd"), f"{os.path.dirname(pct)}:{rest}")
    yield server
    server.stop()


@pytest.fixture
def ssh(server, straight):
    """Runs a command over ssh."""
    def go(target, *arguments, flags=None, **more):
        return run("exec", target, "--via", "ssh", *(flags or server.flags), *arguments, env=straight, **more)
    return go


@pytest.mark.parametrize("target", ["node/pve1", "lxc/200"])
@pytest.mark.parametrize("code", [0, 7, 255])
def test_streams_and_status(ssh, target, code):
    result = ssh(target, "--", "sh", "-c", f"echo out; echo err >&2; exit {code}")
    assert (result.returncode, result.stdout, result.stderr) == (code, b"out\n", b"err\n")


def test_the_container_is_the_container(ssh, straight):
    result = ssh("lxc/200", "--", "hostname")
    over_shell = run("exec", "lxc/200", "--via", "shell", "--", "hostname", env=straight)
    assert result.stdout == over_shell.stdout != b""


@pytest.mark.parametrize("target", ["node/pve1", "lxc/200"])
def test_large_binary_input_comes_back(ssh, target):
    data = os.urandom(3 << 20)
    result = ssh(target, "-i", "--", "sh", "-c", "cat; echo end >&2", input=data)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
    assert (result.returncode, result.stderr) == (0, b"end\n")


def test_words_are_exact(ssh):
    words = ["", " ", "a'b", '"', "$(id)", "line\nline", "é", "*"]
    result = ssh("lxc/200", "--", "printf", "%s\\0", *words)
    assert result.stdout.decode().split("\0")[:-1] == words


def test_a_terminal(ssh):
    result = ssh("lxc/200", "-t", "--shell", "test -t 1 && echo yes")
    if b"terminal" in result.stderr:
        pytest.skip("-t wants a terminal of its own")
    assert result.returncode == 0 and b"yes" in result.stdout


def test_refusals_say_what_to_do(ssh, server, straight, tmp_path):
    refused = ssh("node/pve1", "--", "true", flags=[
        f if f != str(server.folder / "key") else str(server.folder / "other") for f in server.flags])
    assert refused.returncode > 200 and b"refused the key" in refused.stderr and b"authorized_keys" in refused.stderr
    (tmp_path / "known").write_text("")
    unknown = ssh("node/pve1", "--", "true", flags=[
        f if f != str(server.folder / "known") else str(tmp_path / "known") for f in server.flags])
    assert unknown.returncode > 200 and b"is not known" in unknown.stderr
    stopped = ssh("qemu/100", "--", "true")
    assert stopped.returncode > 200 and b"agent" in stopped.stderr


def test_auto_prefers_ssh_to_the_shell_and_says_so(server, straight):
    result = run("exec", "lxc/200", *server.flags, "--explain", "--", "true", env=straight)
    assert result.returncode == 0, result.stderr
    text = (result.stdout + result.stderr).decode()
    assert text.index("ssh") < text.index("shell")


def test_nothing_stays_behind(server, ssh):
    """Neither a connection nor a folder of ours."""
    before = {p for p in os.listdir("/tmp") if p.startswith("sp-ssh-")}
    assert ssh("node/pve1", "--", "true").returncode == 0
    deadline = time.monotonic() + 10
    while {p for p in os.listdir("/tmp") if p.startswith("sp-ssh-")} - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {p for p in os.listdir("/tmp") if p.startswith("sp-ssh-")} <= before


def test_through_a_gateway_with_what_its_configuration_says(node, server, folder):
    gateway = Gateway(folder, cluster_yaml(
        f"127.0.0.1:{node['port']}", "root@pam", folder, node["users"]["root@pam"],
        f"{{ fingerprint: \"{node['fingerprint']}\" }}") + (
        "    exec:\n"
        "      transports: [ssh]\n"
        f"      ssh: {{ user: {server.user}, identityFile: \"{server.folder}/key\", port: {server.port},\n"
        f"             knownHostsFile: \"{server.folder}/known\", hosts: {{ pve1: 127.0.0.1 }} }}\n"))
    try:
        env = clean_environment(SALLYPORT_GATEWAY=gateway.url, SALLYPORT_API_KEY=gateway.key)
        result = run("exec", "lxc/200", "--", "sh", "-c", "hostname; echo err >&2; exit 9", env=env)
        assert (result.returncode, result.stderr) == (9, b"err\n")
        data = os.urandom(1 << 20)
        result = run("exec", "node/pve1", "-i", "--", "cat", env=env, input=data)
        assert (result.returncode, result.stdout == data) == (0, True)
        # One connection for all of them, whose arguments say nothing of the commands.
        log = (server.folder / "log").read_text()
        assert "Accepted publickey" in log
    finally:
        assert gateway.stop() == 0, gateway.log
