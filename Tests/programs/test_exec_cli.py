"""sallyport exec, jobs, attach and cp as people use them: in pipes, in a terminal, directly and through a gateway."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import time

import pexpect
import pytest
from conftest import PROGRAM, ROOT, clean_environment, direct

VM = "web1"
CONTAINER = "ct200"


def start(*arguments, env, **more):
    return subprocess.Popen(
        [PROGRAM, *arguments], env=env, cwd=ROOT, **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                                                     "stderr": subprocess.PIPE, **more})


def run(*arguments, env, input=None, timeout=100, **more):
    """Bytes in, bytes out."""
    given = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, timeout=timeout, env=env, cwd=ROOT, **given, **more)


def terminal(*arguments, env, size=(33, 101)):
    return pexpect.spawn(
        PROGRAM, list(arguments), env=env, dimensions=size, timeout=30, encoding="utf-8", cwd=str(ROOT))


@pytest.fixture
def through(gateway):
    """The environment of a command that goes through the gateway."""
    return clean_environment(SALLYPORT_GATEWAY=gateway.url, SALLYPORT_API_KEY=gateway.key)


@pytest.fixture
def straight(node):
    return clean_environment(**direct(node))


@pytest.fixture
def guest(straight):
    """A folder in the VM that goes with the test."""
    path = f"/tmp/cli-{random.randrange(1 << 40):x}"
    assert run("exec", VM, "--", "mkdir", path, env=straight).returncode == 0
    yield path
    run("exec", VM, "--", "rm", "-rf", path, env=straight)


@pytest.fixture(params=[VM, CONTAINER])
def target(request):
    """A VM, by its agent, and a container, by its node's shell."""
    return request.param


@pytest.fixture(params=[VM, "node/pve1"])
def interruptible(request):
    return request.param


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# The end


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_guests_exit_code_is_ours(way, target, code):
    result = run("exec", target, "--", "sh", "-c", f"exit {code}", env=way)
    assert (result.returncode, result.stdout, result.stderr) == (code, b"", b"")


def test_a_signal_is_128_and_its_number(way, target):
    result = run("exec", target, "--shell", "kill -9 $$", env=way)
    assert result.returncode == 137


@pytest.mark.parametrize("arguments, code, kind", [
    (["exec"], 201, "usage"),
    (["exec", VM], 201, "usage"),
    (["exec", VM, "uname", "-a"], 201, "--"),
    (["exec", VM, "--shell", "true", "--", "true"], 201, "usage"),
    (["exec", VM, "--timeout", "soon", "--", "true"], 201, "usage"),
    (["exec", VM, "--timeout", "0", "--", "true"], 201, "usage"),
    (["exec", VM, "--output-limit", "much", "--", "true"], 201, "usage"),
    (["exec", VM, "--env", "=x", "--", "true"], 201, "usage"),
    (["exec", VM, "--env-secret", "NOT_THERE", "--", "true"], 201, "usage"),
    (["exec", VM, "--cwd", "relative", "--", "true"], 201, "directory"),
    (["exec", VM, "--run-as", "a b", "--", "true"], 201, "user"),
    (["exec", "what/ever", "--", "true"], 201, "usage"),
    (["exec", VM, "--via", "pigeon", "--", "true"], 201, "pigeon"),
    (["exec", "nope", "--", "true"], 203, "not-found"),
    (["exec", "lxc/201", "--", "true"], 203, "guest-not-running"),
    (["exec", "db1", "--", "true"], 206, "agent-not-configured"),
    (["exec", "--cwd", "/no/such/folder", VM, "--", "true"], 208, "start-failed"),
    (["exec", "db1", "--via", "agent", "--", "true"], 206, "agent-not-configured"),
])
def test_our_own_failures_are_above_200(way, arguments, code, kind):
    result = run(*arguments, env=way)
    assert result.returncode == code, result.stderr
    assert kind in result.stderr.decode() and result.stdout == b""


def test_nothing_says_which_cluster():
    result = run("exec", VM, "--", "true", env=clean_environment())
    assert result.returncode == 202 and b"bad-configuration" in result.stderr


def test_a_gateway_that_is_not_there():
    result = run("exec", VM, "--", "true", env=clean_environment(
        SALLYPORT_GATEWAY="http://127.0.0.1:1", SALLYPORT_API_KEY="k" * 32))
    assert result.returncode == 205 and b"gateway-unreachable" in result.stderr


def test_a_wrong_key(gateway):
    result = run("exec", VM, "--", "true", env=clean_environment(
        SALLYPORT_GATEWAY=gateway.url, SALLYPORT_API_KEY="k" * 32))
    assert result.returncode == 204 and b"SALLYPORT_API_KEY" in result.stderr


def test_a_wrong_password(node):
    result = run("exec", VM, "--", "true", env=clean_environment(
        **{**direct(node), "SALLYPORT_PVE_PASSWORD": "wrong"}))
    assert result.returncode == 204 and b"login-failed" in result.stderr


def test_the_time_limit(way, target):
    begin = time.monotonic()
    result = run("exec", target, "--timeout", "1.5s", "--", "sleep", "60", env=way)
    assert result.returncode == 210 and b"timed-out" in result.stderr
    assert time.monotonic() - begin < 40


# Bytes


def test_both_streams_byte_for_byte(way, target):
    every = bytes(range(256))
    result = run("exec", target, "--shell", "cat; printf '\\001\\377err\\n' >&2", env=way, input=every * 3)
    assert result.returncode == 0, result.stderr
    assert result.stdout == every * 3 and result.stderr == b"\x01\xfferr\n"


@pytest.mark.parametrize("words", [
    ["a b", "", "'", '"', "$HOME", "$(id)", "`id`", "*", "\\", "-n", "--", "a\nb", "\t", "ünï"],
    [b"\xff\xfe", b"\x80abc\x01"],
])
def test_arguments_are_exact(way, target, words):
    words = [w.encode() if isinstance(w, str) else w for w in words]
    result = subprocess.run(
        [PROGRAM.encode(), b"exec", target.encode(), b"--", b"sh", b"-c", b'for a; do printf "%s\\0" "$a"; done', b"x", *words],
        capture_output=True, env=way, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=100)
    assert result.returncode == 0, result.stderr
    assert result.stdout == b"".join(w + b"\0" for w in words)


def test_environment_directory_and_user(way, tmp_path):
    file = tmp_path / "env"
    file.write_text("# a comment\n\nFROM_FILE=one two\nTWICE=file\n")
    result = run(
        "exec", VM, "--env-file", str(file), "--env", "TWICE=option", "-e", "EMPTY=", "--env-secret", "HIDDEN",
        "--cwd", "/usr/lib", "--shell", 'echo "$FROM_FILE|$TWICE|${EMPTY-unset}|$HIDDEN"; pwd', env={**way, "HIDDEN": "s3cret"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode().splitlines() == ["one two|option||s3cret", "/usr/lib"]
    result = run("exec", VM, "--run-as", "nobody", "--", "id", "-un", env=way)
    assert result.stdout == b"nobody\n", result.stderr


def test_sixteen_mebibytes_out(way, target):
    result = run("exec", target, "--shell", "head -c 16777217 /dev/urandom | tee /tmp/out-16 | sha256sum >&2; cat /tmp/out-16; "
                 "rm /tmp/out-16", env=way)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout) == 16777217 and sha256(result.stdout) == result.stderr.split()[0].decode()


def test_sixteen_mebibytes_in(way, target):
    data = random.randbytes(16 << 20)
    result = run("exec", target, "--", "sha256sum", env=way, input=data)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0].decode() == sha256(data)


def test_the_output_limit_is_said(way, target):
    result = run("exec", target, "--output-limit", "1k", "--shell", "head -c 5000 /dev/zero; echo done >&2; exit 3", env=way)
    assert result.returncode == 3 and len(result.stdout) == 1024
    assert b"done" in result.stderr and b"truncated" in result.stderr


def test_input_ends_when_ours_does(way, target):
    process = start("exec", target, "--shell", "cat; echo end", env=way, stdin=subprocess.PIPE)
    process.stdin.write(b"one\n")
    process.stdin.flush()
    time.sleep(1)
    assert process.poll() is None
    process.stdin.close()
    assert process.stdout.read() == b"one\nend\n"
    assert process.wait(30) == 0


def test_without_input_a_loop_keeps_its_own(way):
    """`while read …; do sallyport exec -n …; done`"""
    result = run("exec", "-n", VM, "--", "cat", env=way, input=b"not for the guest")
    assert result.returncode == 0 and result.stdout == b""


def test_output_comes_while_the_command_runs(way, target):
    process = start("exec", target, "--shell", "echo first; sleep 5; echo second", env=way)
    begin = time.monotonic()
    assert process.stdout.readline() == b"first\n"
    assert time.monotonic() - begin < 4.5
    assert process.stdout.read() == b"second\n" and process.wait(30) == 0


def test_a_reader_that_is_slow_gets_everything(way):
    process = start("exec", CONTAINER, "--shell", "head -c 9000000 /dev/urandom | tee /tmp/slow | sha256sum >&2; cat /tmp/slow; rm /tmp/slow",
                    env=way)
    time.sleep(3)
    data = b""
    while piece := process.stdout.read(1 << 20):
        data += piece
        time.sleep(0.05)
    assert process.wait(30) == 0
    assert len(data) == 9000000 and sha256(data) == process.stderr.read().split()[0].decode()


def test_head_ends_the_command(way, target):
    begin = time.monotonic()
    result = subprocess.run(
        ["bash", "-c", f'"{PROGRAM}" exec {target} -- sh -c "echo \\$\\$; exec yes" | head -c 100000 | wc -c; echo "${{PIPESTATUS[0]}}"'],
        capture_output=True, env=way, cwd=ROOT, stdin=subprocess.DEVNULL, timeout=100)
    assert result.stdout.split() == [b"100000", b"141"], result.stderr
    assert time.monotonic() - begin < 60


# JSON


def test_json_tells_everything(way):
    result = run("exec", VM, "--json", "--shell", "printf 'h\\303\\251'; printf '\\377' >&2; exit 7", env=way)
    assert result.returncode == 7 and result.stderr == b""
    report = json.loads(result.stdout)
    assert report["end"] == {"kind": "exited", "code": 7} and report["exitCode"] == 7
    assert report["stdout"] == "hé" and report["stderrBase64"] == "/w=="
    assert report["target"] == "qemu/100" and report["node"] == "pve1" and report["transport"] == "agent"
    assert report["seconds"] > 0 and report["stdoutTruncated"] is False and report["reason"]
    assert ("job" in report) == ("SALLYPORT_GATEWAY" in way)


@pytest.mark.parametrize("target, code, kind", [("nope", 203, "not-found"), ("db1", 206, "agent-not-configured")])
def test_json_tells_failures_too(way, target, code, kind):
    result = run("exec", target, "--json", "--", "true", env=way)
    report = json.loads(result.stdout)
    assert result.returncode == report["exitCode"] == code and kind in report["failure"]["kind"]
    assert kind.encode() in result.stderr


def test_explain_runs_nothing(way, straight, guest):
    result = run("exec", VM, "--explain", "--", "touch", f"{guest}/ran", env=way)
    assert result.returncode == 0 and re.search(r"^→ agent +\S", result.stdout.decode(), re.M), result.stderr
    assert run("exec", VM, "--", "ls", guest, env=straight).stdout == b""
    assert run("exec", "db1", "--explain", "--via", "agent", "--", "true", env=way).returncode == 207


def test_a_shared_console_is_explained_and_never_chosen(node):
    """A token opens no shell: what is left of a container is its console, which only who names it gets."""
    token = clean_environment(
        SALLYPORT_PVE_HOST=f"127.0.0.1:{node['port']}", SALLYPORT_PVE_FINGERPRINT=node["fingerprint"],
        SALLYPORT_PVE_TOKEN_ID=node["token"]["id"], SALLYPORT_PVE_TOKEN_SECRET=node["token"]["secret"])
    result = run("exec", CONTAINER, "--explain", "--", "true", env=token)
    text = result.stdout.decode()
    assert result.returncode == 207 and "→" not in text and re.search(r"^\+ console ", text, re.M), text
    assert run("exec", "-n", CONTAINER, "--", "true", env=token).returncode == 207
    named = run("exec", CONTAINER, "--via", "console", "--explain", "--", "true", env=token)
    assert named.returncode == 0 and "→ console" in named.stdout.decode()


# Ctrl-C and terminals


def test_ctrl_c_is_the_commands(way, interruptible):
    process = start("exec", interruptible, "--shell", "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.1; done", env=way)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == b"caught\n"
    assert process.wait(30) == 9


def test_a_second_ctrl_c_cancels(way, interruptible):
    process = start("exec", interruptible, "--shell", "trap '' INT; echo ready; exec sleep 300", env=way)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(40) == 211


def test_being_terminated_ends_the_command(way, straight, guest):
    process = start("exec", VM, "--shell", f"echo $$ > {guest}/pid; echo ready; exec sleep 300", env=way)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(40) == 143
    result = run("exec", VM, "--shell", f"kill -0 $(cat {guest}/pid)", env=straight)
    assert result.returncode != 0


def test_a_terminal_with_its_size(way):
    child = terminal("exec", "-t", CONTAINER, "--", "bash", "--norc", env=way)
    child.expect(r"ct200 \(lxc/200 on pve1\).*Ctrl-\]")
    child.expect("[#$] ")
    child.send("stty size\r")
    child.expect("33 101")
    child.setwinsize(40, 120)
    time.sleep(0.7)
    child.send("stty size\r")
    child.expect("40 120")
    child.send("echo ünï-$((6*7))\r")
    child.expect("ünï-42")
    child.send("sleep 100\r")
    time.sleep(0.5)
    child.send("\x03")
    child.expect("[#$] ")
    child.send("exit 6\r")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 6


def test_the_key_that_leaves_a_terminal(way):
    child = terminal("exec", "-t", CONTAINER, "--escape", "ctrl-a", "--", "cat", env=way)
    child.expect("Ctrl-A leaves it")
    child.send("\x1d\r")
    child.expect(r"\^\]")
    child.send("\x01")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 211


@pytest.mark.parametrize("how, status", [(None, 5), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGSEGV, None)])
def test_the_terminal_is_as_before(node, how, status):
    """A shell around it shows the settings before and after."""
    shell = pexpect.spawn(
        "/bin/sh", env={**clean_environment(**direct(node)), "PS1": "ready> "}, encoding="utf-8", timeout=30)
    shell.expect("ready> ")
    shell.sendline("stty -g | md5sum")
    shell.expect("([0-9a-f]{32})")
    before = shell.match.group(1)
    shell.expect("ready> ")
    shell.sendline(f"{PROGRAM} exec -t ct200 --shell 'echo in-$((2+3)); read x; exit 5'; echo status=$?")
    shell.expect("in-5")
    if how:
        found = subprocess.run(
            ["pgrep", "-P", str(shell.pid), "-f", "exec -t ct200"], capture_output=True, text=True, check=True)
        os.kill(int(found.stdout), how)
    else:
        shell.sendline("")
    shell.expect(r"status=(\d+)")
    if status:
        assert int(shell.match.group(1)) == status
    shell.expect("ready> ")
    shell.sendline("stty -g | md5sum")
    shell.expect("([0-9a-f]{32})")
    assert shell.match.group(1) == before
    shell.close(force=True)


# cp


SIZES = [0, 1, 65535, 65536, 65537, 20 << 20]


def test_a_container_has_files_too(way, tmp_path):
    data = random.randbytes(3 << 20)
    (tmp_path / "file").write_bytes(data)
    assert run("cp", str(tmp_path / "file"), f"{CONTAINER}:/tmp/", env=way).returncode == 0
    result = run("cp", f"{CONTAINER}:/tmp/file", "-", env=way)
    assert result.returncode == 0 and sha256(result.stdout) == sha256(data), result.stderr
    run("exec", CONTAINER, "--", "rm", "/tmp/file", env=way)


@pytest.mark.parametrize("size", SIZES)
def test_files_both_ways(way, guest, tmp_path, size):
    data = random.randbytes(size)
    local = tmp_path / "file name"
    local.write_bytes(data)
    local.chmod(0o741)
    result = run("cp", str(local), f"{VM}:{guest}/", "--json", env=way)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["bytes"] == size and report["sha256"] == sha256(data)
    listing = run("exec", VM, "--shell", f"cd {guest} && stat -c '%n %a %s' .[!.]* * 2>/dev/null", env=way).stdout
    assert listing.decode() == f"file name 741 {size}\n"
    back = tmp_path / "back"
    result = run("cp", f"{VM}:{guest}/file name", str(back), env=way)
    assert result.returncode == 0, result.stderr
    assert sha256(back.read_bytes()) == sha256(data) and back.stat().st_mode & 0o777 == 0o741
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "file name"]


def test_files_through_pipes(way, guest):
    data = random.randbytes(300_001)
    result = run("cp", "-", f"{VM}:{guest}/piped", "--mode", "640", env=way, input=data)
    assert result.returncode == 0, result.stderr
    result = run("cp", f"{VM}:{guest}/piped", "-", env=way)
    assert result.returncode == 0 and sha256(result.stdout) == sha256(data)


def test_an_upload_goes_on_after_kill_9(way, straight, guest, tmp_path):
    data = random.randbytes(24 << 20)
    (tmp_path / "big").write_bytes(data)
    process = start("cp", str(tmp_path / "big"), f"{VM}:{guest}/big", env=way)
    part = f"{guest}/.big.{sha256(data)[:16]}.part"
    deadline = time.monotonic() + 60
    size = 0
    while size < 1 << 20 and time.monotonic() < deadline and process.poll() is None:
        found = run("exec", VM, "--shell", f"cat {part} 2>/dev/null | wc -c", env=straight)
        size = int(found.stdout)
    assert size >= 1 << 20 and process.poll() is None, process.stderr.read()
    process.kill()
    process.wait()
    assert run("exec", VM, "--", "ls", f"{guest}/big", env=straight).returncode != 0
    # What the killed one left running in the guest has to end before its file can be gone on with.
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if run("exec", VM, "--shell", f"fuser {part} >/dev/null 2>&1 || ! pgrep -f 'sallyport-cp.*big' >/dev/null",
               env=straight).returncode == 0:
            break
        time.sleep(1)
    result = run("cp", str(tmp_path / "big"), f"{VM}:{guest}/big", "--json", env=way)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["resumedFrom"] >= 1 << 20 and report["sha256"] == sha256(data)
    assert run("exec", VM, "--", "sha256sum", f"{guest}/big", env=straight).stdout.decode().split()[0] == sha256(data)
    assert run("exec", VM, "--", "ls", "-A", guest, env=straight).stdout == b"big\n"


def test_a_download_goes_on_after_kill_9(way, guest, tmp_path):
    assert run("exec", VM, "--shell", f"head -c {24 << 20} /dev/urandom > {guest}/big", env=way).returncode == 0
    process = start("cp", f"{VM}:{guest}/big", str(tmp_path / "big"), env=way)
    part = tmp_path / ".big.sallyport-part"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if part.exists() and part.stat().st_size >= 1 << 20:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    had = part.stat().st_size
    assert 1 << 20 <= had < 24 << 20 and not (tmp_path / "big").exists()
    result = run("cp", f"{VM}:{guest}/big", str(tmp_path / "big"), "--json", env=way)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["resumedFrom"] == had and not part.exists()
    expected = run("exec", VM, "--", "sha256sum", f"{guest}/big", env=way).stdout.decode().split()[0]
    assert sha256((tmp_path / "big").read_bytes()) == expected


def test_what_an_earlier_try_left_is_not_believed(way, guest, tmp_path):
    """A partial file of the right name whose bytes are others, at either end."""
    data = random.randbytes(200_000)
    (tmp_path / "file").write_bytes(data)
    part = f"{guest}/.file.{sha256(data)[:16]}.part"
    assert run("exec", VM, "--shell", f"head -c 100000 /dev/zero > {part}", env=way).returncode == 0
    result = run("cp", str(tmp_path / "file"), f"{VM}:{guest}/file", "--json", env=way)
    assert result.returncode == 0 and json.loads(result.stdout)["resumedFrom"] == 0, result.stderr
    (tmp_path / ".back.sallyport-part").write_bytes(bytes(1000))
    result = run("cp", f"{VM}:{guest}/file", str(tmp_path / "back"), "--json", env=way)
    assert result.returncode == 0 and json.loads(result.stdout)["resumedFrom"] == 0, result.stderr
    assert (tmp_path / "back").read_bytes() == data


def test_a_wrong_hash_is_seen(way, straight, guest, tmp_path):
    """Something in the guest changes the bytes while they are copied, as damage on the way would."""
    spoiler = start("exec", VM, "--shell", f"""cd {guest}; echo ready; head -c 3000000 /dev/zero > file; n=0
        while [ -e file ]; do n=$((n + 1)); for f in file .new.*.part; do
        [ -e "$f" ] && printf $n | dd of="$f" conv=notrunc 2>/dev/null; done; done""", env=straight)
    assert spoiler.stdout.readline() == b"ready\n"
    try:
        (tmp_path / "new").write_bytes(random.randbytes(3_000_000))
        result = run("cp", str(tmp_path / "new"), f"{VM}:{guest}/new", env=way)
        assert result.returncode == 1 and b"hash-mismatch" in result.stderr, result.stderr
        assert run("exec", VM, "--", "ls", f"{guest}/new", env=straight).returncode == 2
        result = run("cp", f"{VM}:{guest}/file", str(tmp_path / "back"), env=way)
        assert result.returncode == 1 and b"hash-mismatch" in result.stderr, result.stderr
        assert sorted(p.name for p in tmp_path.iterdir()) == ["new"]
    finally:
        run("exec", VM, "--", "rm", f"{guest}/file", env=straight)
        spoiler.terminate()
        spoiler.wait(30)


def test_folders_both_ways(way, guest, tmp_path):
    tree = tmp_path / "tree"
    (tree / "sub dir").mkdir(parents=True)
    (tree / "sub dir/file").write_bytes(random.randbytes(100_000))
    (tree / "script").write_text("#!/bin/sh\n")
    (tree / "script").chmod(0o755)
    (tree / "link").symlink_to("script")
    assert b"-r" in run("cp", str(tree), f"{VM}:{guest}/", env=way).stderr
    result = run("cp", "-r", str(tree), f"{VM}:{guest}/", env=way)
    assert result.returncode == 0, result.stderr
    again = run("cp", "-r", str(tree), f"{VM}:{guest}/", env=way)
    assert again.returncode == 20 and b"exists" in again.stderr
    (tree / "new").write_text("new")
    assert run("cp", "-r", "--replace", str(tree), f"{VM}:{guest}/", env=way).returncode == 0
    result = run("cp", "-r", f"{VM}:{guest}/tree", str(tmp_path / "back"), env=way)
    assert result.returncode == 0, result.stderr
    assert subprocess.run(["diff", "-r", "--no-dereference", str(tree), str(tmp_path / "back")]).returncode == 0
    assert os.readlink(tmp_path / "back/link") == "script"
    assert (tmp_path / "back/script").stat().st_mode & 0o777 == 0o755
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "tree"]
    assert run("exec", VM, "--", "ls", "-A", guest, env=way).stdout == b"tree\n"


@pytest.mark.parametrize("arguments, code, kind", [
    (["a", "b"], 64, "usage"), (["web1:/a", "web1:/b"], 64, "usage"), (["web1:relative", "x"], 64, "usage"),
    (["/no/such/file", "web1:/tmp/x"], 1, "local-file"), (["web1:/no/such/file", "x"], 20, "no-file"),
    (["web1:/etc", "x"], 64, "-r"), (["/etc/hostname", "web1:/no/folder/x"], 20, "no-folder"),
    (["/etc/hostname", "nope:/tmp/x"], 20, "not-found"), (["/etc/hostname", "db1:/tmp/x"], 20, "agent-not-configured"),
    (["/etc/hostname", "web1:/tmp/x", "--mode", "9"], 64, "mode"),
])
def test_what_cp_refuses(way, arguments, code, kind):
    result = run("cp", *arguments, env=way)
    assert result.returncode == code and kind in result.stderr.decode(), result.stderr


def test_a_progress_bar_on_a_terminal(way, guest, tmp_path):
    (tmp_path / "file").write_bytes(random.randbytes(4 << 20))
    child = terminal("cp", str(tmp_path / "file"), f"{VM}:{guest}/file", env=way)
    child.expect(r"\d+%")
    child.expect(r"MiB of 4\.0 MiB")
    child.expect("at both ends")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


# Jobs


def test_a_detached_job_is_attached_to(through):
    result = run("exec", "--detach", VM, "--shell", "echo begin; sleep 3; echo err >&2; echo end; exit 5", env=through)
    job = result.stdout.decode().strip()
    assert result.returncode == 0 and re.fullmatch(r"j-[\w-]+", job), result.stderr
    listing = run("jobs", env=through).stdout.decode()
    assert re.search(rf"^{job} +qemu/100 +web1 ", listing, re.M), listing
    result = run("attach", job, env=through)
    assert (result.returncode, result.stdout, result.stderr) == (5, b"begin\nend\n", b"err\n")
    result = run("attach", job, "--from", "6", env=through)
    assert (result.returncode, result.stdout) == (5, b"end\n")
    shown = json.loads(run("jobs", "show", job, "--json", env=through).stdout)
    assert shown["state"] == "ended" and shown["end"] == {"kind": "exited", "code": 5}
    assert "exited 5" in run("jobs", "show", job, env=through).stdout.decode()
    output = run("jobs", "output", job, env=through)
    assert (output.stdout, output.stderr) == (b"begin\nend\n", b"err\n")
    assert run("jobs", "output", job, "--stream", "stderr", env=through).stdout == b"err\n"
    assert run("jobs", "forget", job, env=through).returncode == 0
    gone = run("jobs", "show", job, env=through)
    assert gone.returncode == 20 and b"unknown-job" in gone.stderr


def test_a_job_is_signalled_and_cancelled(through):
    job = run("exec", "-d", VM, "--shell", "trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done", env=through) \
        .stdout.decode().strip()
    watcher = start("attach", job, env=through)
    assert watcher.stdout.readline() == b"ready\n"
    assert run("jobs", "signal", job, "HUP", env=through).returncode == 0
    assert watcher.stdout.readline() == b"hup\n"
    assert b"cancel" in run("jobs", "forget", job, env=through).stderr
    assert run("jobs", "cancel", job, env=through).returncode == 0
    assert watcher.wait(40) == 211


def test_leaving_an_attached_job_does_not_end_it(through):
    job = run("exec", "-d", VM, "--shell", "echo ready; sleep 4; echo end", env=through).stdout.decode().strip()
    watcher = start("attach", job, env=through)
    assert watcher.stdout.readline() == b"ready\n"
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait(20) == 143
    result = run("attach", job, env=through)
    assert result.returncode == 0 and result.stdout == b"ready\nend\n"


@pytest.mark.parametrize("arguments, code", [(["show", "j-none"], 20), (["show", "../keys"], 64), (["cancel", "j-none"], 20)])
def test_jobs_that_are_not_there(through, arguments, code):
    assert run("jobs", *arguments, env=through).returncode == code


def test_jobs_need_a_gateway(straight):
    result = run("jobs", env=straight)
    assert result.returncode == 64 and b"gateway" in result.stderr
    assert run("exec", "--detach", VM, "--", "true", env=straight).returncode == 201


# The example


def test_the_example_rolls_out(way, tmp_path):
    (tmp_path / "site.conf").write_text("a\nb\n")
    result = subprocess.run(
        [str(ROOT / "examples/exec.sh"), str(tmp_path / "site.conf"), VM, CONTAINER], capture_output=True, text=True,
        timeout=100, env={**way, "SALLYPORT": PROGRAM})
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["web1: 2 /tmp/site.conf", "ct200: 2 /tmp/site.conf"]
    result = subprocess.run(
        [str(ROOT / "examples/exec.sh"), str(tmp_path / "site.conf"), "db1"], capture_output=True, text=True,
        timeout=100, env={**way, "SALLYPORT": PROGRAM})
    assert result.returncode == 1 and "agent-not-configured" in result.stderr


# Many targets


def test_a_fleet_in_lines_of_json(through):
    result = run("exec", "--select", "tag=prod and node=pve1 and not name=db1", "--shell", "echo hi; echo err >&2", env=through)
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    over = {e["name"]: e for e in events if e["event"] == "target" and e["state"] == "succeeded"}
    assert sorted(over) == ["ct200", "web1"]
    assert over["web1"]["stdout"] == "hi\n" and over["web1"]["stderr"] == "err\n"
    assert events[-1]["event"] == "fleet" and events[-1]["end"] == "completed"


def test_a_fleet_in_lines_of_text_and_its_failures_again(through):
    result = run("exec", "--select", "web1,ct200,db1", "--show", "lines", "--", "sh", "-c", "echo $0 is here; hostname",
                 env=through)
    assert result.returncode == 220
    lines = result.stdout.decode().splitlines()
    assert "web1 | sh is here" in lines and "ct200 | sh is here" in lines
    errors = result.stderr.decode()
    assert "db1: not started" in errors and "3 targets, 2 succeeded, 1 failed" in errors
    fleet = re.search(r"^(f-[\w-]+):", errors, re.M).group(1)
    again = run("exec", "--rerun-failed", fleet, "--show", "lines", env=through)
    assert again.returncode == 220 and "1 targets, 1 failed" in again.stderr.decode()


def test_a_fleet_into_a_folder(through, tmp_path):
    result = run("exec", "--select", "web1,ct200", "--show", "lines", "--output-dir", str(tmp_path / "out"), "--shell",
                 "hostname; echo err >&2", env=through)
    assert result.returncode == 0 and result.stdout == b"", result.stderr
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["ct200.lxc-200.stderr", "ct200.lxc-200.stdout", "results.jsonl", "web1.qemu-100.stderr", "web1.qemu-100.stdout"]
    assert (tmp_path / "out/web1.qemu-100.stdout").read_text() == "web1\n"
    assert len((tmp_path / "out/results.jsonl").read_text().splitlines()) == 2


def test_a_budget_stops_a_fleet(through):
    result = run("exec", "--select", "web1,ct200", "--concurrency", "1", "--failure-budget", "0", "--show", "lines", "--",
                 "false", env=through)
    assert result.returncode == 221 and b"skipped" in result.stderr


def test_a_fleet_on_a_terminal(through):
    child = terminal("exec", "--select", "web1,ct200", "--shell", "sleep 2; echo done-$((40+2))", env=through)
    child.expect(r"0/2  ")
    child.expect("running")
    child.expect(r"\| done-42")
    child.expect("2 targets, 2 succeeded")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_cancels_a_fleet(through):
    process = start("exec", "--select", "web1,ct200", "--", "sleep", "300", env=through)
    running = 0
    while running < 2:
        event = json.loads(process.stdout.readline())
        running = event.get("progress", {}).get("running", 0)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 211


def test_a_fleet_is_left_and_attached_to(through):
    fleet = run("exec", "--select", "web1,ct200", "-d", "--shell", "sleep 2; echo end", env=through).stdout.decode().strip()
    assert fleet.startswith("f-")
    result = run("attach", fleet, env=through)
    assert result.returncode == 0
    assert sum(json.loads(line).get("stdout") == "end\n" for line in result.stdout.splitlines()) == 2


@pytest.mark.parametrize("arguments, code, words", [
    (["--select", "tag=web", "web1", "--", "true"], 201, "many"),
    (["--select", "tag=", "--", "true"], 201, "bad-selector"),
    (["--select", "name=none-*", "--", "true"], 201, "empty-selection"),
    (["--select", "all", "-t", "--", "true"], 201, "one target"),
    (["--concurrency", "2", "web1", "--", "true"], 201, "--select"),
    (["--select", "all", "--canary", "few", "--", "true"], 201, "canary"),
    (["--rerun-failed", "f-none"], 203, "unknown-fleet"),
])
def test_what_a_fleet_refuses(through, arguments, code, words):
    result = run("exec", *arguments, env=through)
    assert result.returncode == code and words in result.stderr.decode(), result.stderr


def test_many_targets_need_a_gateway(straight):
    result = run("exec", "--select", "all", "--", "true", env=straight)
    assert result.returncode == 201 and b"gateway" in result.stderr


def test_a_dry_run_runs_nothing(through, straight, guest):
    result = run("exec", "--select", "web1,ct200", "--dry-run", "--show", "lines", "--", "touch", f"{guest}/ran", env=through)
    assert result.returncode == 0 and b"web1" in result.stdout and b"ct200" in result.stdout, result.stderr
    assert run("exec", VM, "--", "ls", guest, env=straight).stdout == b""
