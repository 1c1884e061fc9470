"""kubectl, unmodified, and Python's `kubernetes` against the facade: guests and nodes as pods."""

import hashlib
import os
import pathlib
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import time

import pexpect
import pytest
from conftest import ROOT, Gateway, clean_environment, cluster_yaml

KUBECTL = shutil.which("kubectl")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="There is no kubectl on this machine.")

# Each by another way: the guest agent, and the node's shell with and without `pct exec`.
PODS = ["qemu-100", "lxc-200", "node-pve1"]


@pytest.fixture(scope="module")
def certificate(folder):
    """A certificate for 127.0.0.1: kubectl sends its token over TLS only."""
    cert, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=sallyport test",
         "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
        check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def secure(node, folder, certificate):
    """A gateway with TLS, and a second key that may only read."""
    reader = folder / "reader.key"
    reader.write_text(secrets.token_urlsafe(32) + "\n")
    reader.chmod(0o600)
    yaml = cluster_yaml(
        f"127.0.0.1:{node['port']}", "root@pam", folder, node["users"]["root@pam"],
        f"{{ fingerprint: \"{node['fingerprint']}\" }}")
    yaml += f"apiKeys:\n  - {{ name: reader, keyFile: \"{reader}\", rights: [inventory] }}\n"
    service = Gateway(
        folder, yaml, SALLYPORT_TLS_CERTIFICATE_FILE=certificate[0], SALLYPORT_TLS_KEY_FILE=certificate[1])
    service.reader = reader.read_text().strip()
    service.ca = str(certificate[0])
    yield service
    assert service.stop() == 0, service.log


def command(gateway, *words, key=None, program=None):
    return [
        program or KUBECTL, "--server", f"{gateway.url}/k8s", "--certificate-authority", gateway.ca,
        "--token", key or gateway.key, *words]


@pytest.fixture
def home(tmp_path):
    """kubectl's caches go nowhere else."""
    return clean_environment(HOME=tmp_path, KUBECONFIG="/dev/null", KUBECACHEDIR=tmp_path / "cache")


@pytest.fixture
def kubectl(secure, home):
    def run(*words, key=None, input=None, timeout=90, program=None, **more):
        return subprocess.run(
            command(secure, *words, key=key, program=program), input=input, stdin=None if input is not None else
            subprocess.DEVNULL, capture_output=True, timeout=timeout, env={**home, **more})
    return run


# kubectl's own look at things


@needs_kubectl
def test_pods_are_listed(kubectl):
    run = kubectl("get", "pods")
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.decode().splitlines()]
    assert lines[0][:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    status = {line[0]: line[2] for line in lines[1:]}
    assert status["qemu-100"] == "Running" and status["qemu-102"] == "Succeeded"
    assert status["lxc-200"] == "Running" and status["node-pve1"] == "Running"
    wide = kubectl("get", "pods", "-A", "-o", "wide").stdout.decode()
    assert "NAMESPACE" in wide and "pve1" in wide
    names = kubectl("get", "pods", "-l", "sallyport/type=lxc", "-o", "name").stdout.decode().split()
    assert names == ["pod/lxc-200", "pod/lxc-201"]
    one = kubectl("get", "pod", "web1", "-o", "jsonpath={.metadata.annotations.sallyport/target}")
    assert one.stdout == b"qemu/100"


@needs_kubectl
def test_clusters_are_namespaces_and_nodes_nodes(kubectl):
    assert b"namespace/test" in kubectl("get", "namespaces", "-o", "name").stdout
    assert b"node/pve1" in kubectl("get", "nodes", "-o", "name").stdout
    assert kubectl("-n", "test", "exec", "node-pve1", "--", "true").returncode == 0
    missing = kubectl("-n", "nowhere", "get", "pods")
    assert missing.returncode != 0 and b"nowhere" in missing.stderr


@needs_kubectl
def test_the_example(secure, home, tmp_path):
    key = tmp_path / "api-key"
    key.write_text(secure.key + "\n")
    text = (ROOT / "examples/kubeconfig.yaml").read_text()
    for old, new in [
            ("https://localhost:8443", secure.url), ("/etc/sallyport/tls.crt", secure.ca), ("/etc/sallyport/api-key", key)]:
        assert old in text
        text = text.replace(old, str(new))
    (tmp_path / "config").write_text(text)
    run = subprocess.run(
        [KUBECTL, "--kubeconfig", str(tmp_path / "config"), "get", "pod", "lxc-200", "-o", "name"],
        capture_output=True, env=home, timeout=60)
    assert run.stdout == b"pod/lxc-200\n", run.stderr


# Commands


@needs_kubectl
@pytest.mark.parametrize("pod", PODS)
@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_exit_statuses(kubectl, pod, status):
    run = kubectl("exec", pod, "--", "sh", "-c", f"exit {status}")
    assert run.returncode == status, run.stderr
    assert run.stdout == b""
    if status:
        assert f"exit code {status}".encode() in run.stderr


@needs_kubectl
@pytest.mark.parametrize("pod", PODS)
def test_a_signal_is_128_and_its_number(kubectl, pod):
    run = kubectl("exec", pod, "--", "sh", "-c", "kill -9 $$")
    assert run.returncode == 137, run.stderr


@needs_kubectl
@pytest.mark.parametrize("pod", PODS)
def test_both_streams(kubectl, pod):
    run = kubectl("exec", pod, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert run.returncode == 7
    assert run.stdout == b"out\n"
    assert run.stderr.startswith(b"err\n")


@needs_kubectl
@pytest.mark.parametrize("pod", PODS)
def test_arguments_arrive_exactly(kubectl, pod):
    words = ["a b", "", "'\"`$(id)\\", "*", "-n", "ünï 日本", "%41+&=;#", "\t"]
    run = kubectl("exec", pod, "--", "printf", "<%s>", *words)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "".join(f"<{w}>" for w in words).encode()


@needs_kubectl
def test_bytes_that_are_no_text_arrive(secure, home):
    run = subprocess.run(
        [w.encode() for w in command(secure, "exec", "node-pve1", "--", "printf", "%s")] + [b"\xff\xfe\x80"],
        capture_output=True, env=home, timeout=60, stdin=subprocess.DEVNULL)
    assert run.stdout == b"\xff\xfe\x80", run.stderr


@needs_kubectl
@pytest.mark.parametrize("pod", PODS)
def test_output_of_every_byte(kubectl, pod):
    count = 1 << 20
    run = kubectl("exec", pod, "--", "sh", "-c", f"dd if=/dev/urandom bs=65536 count={count >> 16} 2>/dev/null "
                  "| tee /tmp/kubectl-$$ ; sha256sum < /tmp/kubectl-$$ >&2; rm -f /tmp/kubectl-$$")
    assert run.returncode == 0, run.stderr
    assert len(run.stdout) == count
    assert hashlib.sha256(run.stdout).hexdigest() in run.stderr.decode()


def feed(process, chunk, count):
    """Writes `count` chunks and closes; the digest of what was sent."""
    digest = hashlib.sha256()
    for _ in range(count):
        digest.update(chunk)
        process.stdin.write(chunk)
    process.stdin.close()
    return digest.hexdigest()


@needs_kubectl
@pytest.mark.parametrize("pod, mebibytes", [("lxc-200", 8), ("node-pve1", 100)])
@pytest.mark.timeout(560)
def test_large_input_with_half_close(secure, home, pod, mebibytes):
    process = subprocess.Popen(
        command(secure, "exec", "-i", pod, "--", "sha256sum"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=home)
    sent = feed(process, os.urandom(1 << 20), mebibytes)
    out, err = process.stdout.read(), process.stderr.read()
    assert process.wait(300) == 0, err
    assert out.split()[0].decode() == sent


@needs_kubectl
def test_input_arrives_whole_or_it_is_an_error(kubectl):
    """The guest agent's plain calls carry 64 KiB of input; what is over them must not get lost in silence."""
    small, large = os.urandom(40_000), os.urandom(1 << 20)
    run = kubectl("exec", "-i", "qemu-100", "--", "sha256sum", input=small)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[0].decode() == hashlib.sha256(small).hexdigest()
    run = kubectl("exec", "-i", "qemu-100", "--", "sha256sum", input=large)
    if run.returncode == 0:
        assert run.stdout.split()[0].decode() == hashlib.sha256(large).hexdigest()
    else:
        assert b"standard input could not be delivered" in run.stderr and run.stdout == b""


@needs_kubectl
def test_input_that_nobody_reads_to_its_end(secure, home):
    """`head` ends while more is on its way: its output and status still arrive."""
    process = subprocess.Popen(
        command(secure, "exec", "-i", "node-pve1", "--", "head", "-c", "5"), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=home)
    try:
        for _ in range(64):
            process.stdin.write(b"0123456789abcdef" * 65536)
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.stdout.read() == b"01234"
    assert process.wait(60) == 0, process.stderr.read()


@needs_kubectl
def test_ending_kubectl_ends_the_command(secure, kubectl, home):
    mark = f"/tmp/kubectl-{secrets.token_hex(6)}"
    process = subprocess.Popen(
        command(secure, "exec", "node-pve1", "--", "sh", "-c", f"echo $$ > {mark}; exec sleep 300"),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=home)
    deadline = time.monotonic() + 30
    while not pathlib.Path(mark).exists() or not pathlib.Path(mark).read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    pid = int(pathlib.Path(mark).read_text())
    process.send_signal(signal.SIGINT)
    process.wait(20)
    while pathlib.Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline + 30, "the command goes on"
        time.sleep(0.1)
    os.unlink(mark)


# Terminals


@needs_kubectl
@pytest.mark.parametrize("pod", ["node-pve1", "lxc-200"])
def test_a_terminal_and_its_size(secure, home, pod):
    script = "stty size; read line; stty size; test -t 1 && exit 5"
    words = command(secure, "exec", "-it", pod, "--", "sh", "-c", script)
    child = pexpect.spawn(words[0], words[1:], env=home, dimensions=(33, 101), timeout=30)
    child.expect("33 101")
    child.setwinsize(44, 120)
    time.sleep(1)
    child.sendline("")
    child.expect("44 120")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5, child.before


@needs_kubectl
def test_a_shell(secure, home):
    words = command(secure, "exec", "-it", "node-pve1", "--", "sh")
    child = pexpect.spawn(words[0], words[1:], env=home, timeout=30)
    child.expect(r"[#$] ")
    child.sendline("sleep 100; echo after-$?")
    time.sleep(1)
    child.sendintr()
    child.expect(r"after-130|[#$] ")
    child.sendline("exit 5")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5, child.before


@needs_kubectl
def test_a_virtual_machine_by_its_serial_port(secure, home):
    words = command(secure, "exec", "-it", "qemu-100", "-c", "serial", "--", "sh")
    child = pexpect.spawn(words[0], words[1:], env=home, timeout=30)
    child.expect(r"[#$] ")
    child.sendline("echo a$((1 + 1))b")
    child.expect("a2b")
    child.close(force=True)


# Copies


@needs_kubectl
@pytest.mark.parametrize("pod", ["node-pve1", "lxc-200"])
def test_files_are_copied_both_ways(kubectl, tmp_path, pod):
    there = f"/tmp/kubectl-cp-{secrets.token_hex(4)}"
    (tmp_path / "up").write_bytes(os.urandom(3 << 20))
    run = kubectl("cp", str(tmp_path / "up"), f"{pod}:{there}")
    assert run.returncode == 0, run.stderr
    run = kubectl("cp", f"{pod}:{there}", str(tmp_path / "down"))
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    kubectl("exec", pod, "--", "rm", "-f", there)


# What goes wrong


@needs_kubectl
def test_unknown_pods(kubectl):
    run = kubectl("exec", "qemu-999", "--", "true")
    assert run.returncode == 1
    assert b"NotFound" in run.stderr and b"999" in run.stderr


@needs_kubectl
def test_stopped_guests(kubectl):
    run = kubectl("exec", "qemu-102", "--", "true")
    assert run.returncode == 1
    assert b"Succeeded" in run.stderr


@needs_kubectl
def test_programs_that_are_not_there(kubectl):
    run = kubectl("exec", "node-pve1", "--", "/no/such/program")
    assert run.returncode != 0
    assert run.stderr


@needs_kubectl
def test_a_wrong_token(kubectl):
    run = kubectl("exec", "qemu-100", "--", "true", key="x" * 40)
    assert run.returncode == 1
    assert b"logged in" in run.stderr or b"Unauthorized" in run.stderr


@needs_kubectl
def test_a_key_that_may_only_read(kubectl, secure, tmp_path):
    assert kubectl("get", "pods", key=secure.reader).returncode == 0
    mark = tmp_path / "ran"
    run = kubectl("exec", "node-pve1", "--", "touch", str(mark), key=secure.reader)
    assert run.returncode == 1
    assert b"no right to 'exec'" in run.stderr
    assert b"rights in the configuration" in run.stderr
    assert not mark.exists()


@needs_kubectl
def test_unknown_containers(kubectl):
    run = kubectl("exec", "node-pve1", "-c", "nginx", "--", "true")
    assert run.returncode == 1 and b"container nginx is not valid" in run.stderr


@needs_kubectl
def test_what_there_is_not(kubectl):
    for words in [["logs", "qemu-100"], ["attach", "qemu-100"], ["delete", "pod", "qemu-100"], ["get", "pods", "-w"]]:
        run = kubectl(*words)
        assert run.returncode == 1, words
        assert b"not possible here" in run.stderr or b"Nothing can be changed" in run.stderr, run.stderr


@needs_kubectl
def test_line_breaks_in_arguments_are_refused_in_words(kubectl, tmp_path):
    mark = tmp_path / "ran"
    run = kubectl("exec", "node-pve1", "--", "sh", "-c", f"touch {mark}\necho two")
    assert run.returncode == 1
    assert b"line break" in run.stderr and b"sh -s" in run.stderr
    assert not mark.exists()
    # As the remedy says:
    run = kubectl("exec", "-i", "node-pve1", "--", "sh", "-s", input=b"echo one\necho two\n")
    assert run.stdout == b"one\ntwo\n"


OTHERS = sorted(pathlib.Path(KUBECTL).resolve().parent.glob("kubectl.1.[23][0-9]")) if KUBECTL else []


@pytest.mark.parametrize("program", OTHERS, ids=lambda p: p.name)
def test_other_versions(kubectl, program):
    minor = int(program.name.rsplit(".", 1)[1])
    run = kubectl(
        "exec", "-i", "node-pve1", "--", "sh", "-c", "cat; exit 4", input=b"hello", program=str(program),
        KUBECTL_REMOTE_COMMAND_WEBSOCKETS="true")
    if minor >= 29:
        assert (run.returncode, run.stdout) == (4, b"hello"), run.stderr
    else:
        # They speak SPDY only.
        assert run.returncode == 1 and run.stdout == b""


# Python's client


@pytest.fixture
def api(secure):
    client = pytest.importorskip("kubernetes").client
    configuration = client.Configuration()
    configuration.host = f"{secure.url}/k8s"
    configuration.ssl_ca_cert = secure.ca
    configuration.api_key = {"authorization": f"Bearer {secure.key}"}
    return client.CoreV1Api(client.ApiClient(configuration))


def run_python(api, pod, words, **more):
    from kubernetes.stream import stream
    return stream(
        api.connect_get_namespaced_pod_exec, pod, "default", command=words, stdin=False, stdout=True, stderr=True,
        tty=False, _preload_content=False, **more)


def test_python_lists_pods(api):
    pods = {pod.metadata.name: pod for pod in api.list_namespaced_pod("default").items}
    assert pods["qemu-100"].status.phase == "Running"
    assert pods["lxc-200"].spec.node_name == "pve1"


@pytest.mark.parametrize("pod", PODS)
@pytest.mark.parametrize("status", [0, 1, 255])
def test_python_runs_commands(api, pod, status):
    client = run_python(api, pod, ["sh", "-c", f"echo out; echo err >&2; exit {status}"])
    client.run_forever(timeout=60)
    assert client.subprotocol == "v5.channel.k8s.io"
    assert client.read_stdout() == "out\n" and client.read_stderr() == "err\n"
    assert client.returncode == status


def test_python_half_closes_input(api):
    from kubernetes.stream import stream
    client = stream(
        api.connect_get_namespaced_pod_exec, "node-pve1", "default", command=["sha256sum"], stdin=True, stdout=True,
        stderr=True, tty=False, _preload_content=False, binary=True)
    data = os.urandom(3 << 20)
    for start in range(0, len(data), 1 << 16):
        client.write_stdin(data[start:start + (1 << 16)])
    client.close_channel(0)
    client.run_forever(timeout=60)
    assert client.returncode == 0
    assert client.read_stdout().split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_python_is_refused_without_the_right(api, secure):
    from kubernetes.client.exceptions import ApiException
    api.api_client.configuration.api_key = {"authorization": f"Bearer {secure.reader}"}
    assert api.list_namespaced_pod("default").items
    with pytest.raises(ApiException, match="403"):
        run_python(api, "node-pve1", ["true"])


# The gateway's own stream


def exec_stream(secure, query, key=None, **more):
    from websockets.sync.client import connect
    context = ssl.create_default_context(cafile=secure.ca)
    return connect(
        f"{secure.url.replace('https', 'wss')}/v1/exec/stream?{query}", ssl=context,
        subprotocols=["v5.channel.k8s.io"], compression=None, max_size=None,
        additional_headers={"Authorization": f"Bearer {key or secure.key}"}, **more)


def test_the_native_stream(secure):
    with exec_stream(secure, "target=node/pve1&command=sh&command=-c&command=cat%3Bexit+3&stdin=true") as socket:
        socket.send(b"\x00hello")
        socket.send(b"\xff\x00")
        messages = list(socket)
    out = b"".join(m[1:] for m in messages if m[0] == 1)
    status = [m[1:] for m in messages if m[0] == 3]
    assert out == b"hello" and len(status) == 1
    assert re.search(rb'"reason":"ExitCode","message":"3"', status[0])
    assert socket.close_code == 1000


def test_the_native_stream_needs_the_right(secure):
    from websockets.exceptions import InvalidStatus
    for key, status in [(secure.reader, 403), ("x" * 40, 401)]:
        with pytest.raises(InvalidStatus) as refused:
            exec_stream(secure, "target=node/pve1&command=true", key=key)
        assert refused.value.response.status_code == status


def test_other_origins_are_refused(secure):
    from websockets.exceptions import InvalidStatus
    with pytest.raises(InvalidStatus) as refused:
        exec_stream(secure, "target=node/pve1&command=true", origin="https://evil.example")
    assert refused.value.response.status_code == 403
