"""The command line as people use it: in a terminal (pexpect), in a pipe, directly and through a gateway."""

import json
import os
import re
import signal
import socket
import subprocess
import time

import pexpect
import pytest
from conftest import PROGRAM, ROOT, Gateway, Service, clean_environment, cluster_yaml, direct
from rfb import Line, Screen


def run(*arguments, env, input=None, timeout=60):
    return subprocess.run(
        [PROGRAM, *arguments], input=input, capture_output=True, text=True, timeout=timeout, env=env, cwd=ROOT)


def terminal(*arguments, env, size=(33, 101)):
    return pexpect.spawn(PROGRAM, list(arguments), env=env, dimensions=size, timeout=30, encoding="utf-8", cwd=str(ROOT))


def leave(child):
    child.send("\x1d")
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


# console


def test_a_terminal_with_sizes_and_utf8(way):
    child = terminal("console", "node/pve1", env=way)
    child.expect("Connected to node/pve1, terminal.*Ctrl-]")
    child.expect("[#$] ")
    child.send("stty size\r")
    child.expect("33 101")
    child.setwinsize(40, 120)
    time.sleep(0.7)
    child.send("stty size\r")
    child.expect("40 120")
    child.send("echo $((6*7))-ünï-日本\r")
    child.expect("42-ünï-日本")
    assert leave(child) == 0
    assert "Left node/pve1" in child.before


def test_the_escape_key_is_text_within_a_paste(way):
    child = terminal("console", "node/pve1", env=way)
    child.expect("[#$] ")
    child.send("cat -v\r")
    child.expect("cat -v")
    child.send("\x1b[200~one\x1dtwo\x1b[201~\r")
    child.expect(r"one\^\]two")
    assert child.isalive() and leave(child) == 0


def test_mouse_and_ctrl_c_go_through(way):
    child = terminal("console", "node/pve1", env=way)
    child.expect("[#$] ")
    child.send("cat -v\r")
    time.sleep(0.5)
    child.send("\x1b[<0;10;5M\r")
    child.expect(re.escape("^[[<0;10;5M"))
    child.send("\x03")
    child.expect("[#$] ")
    assert leave(child) == 0


def test_modes_that_a_program_left_on_are_switched_off(way):
    child = terminal("console", "node/pve1", env=way)
    child.expect("[#$] ")
    child.send("printf '\\033[?1049h\\033[?1003hin'; echo side\r")
    child.expect("inside")
    child.send("\x1d")
    child.expect(re.escape("\x1b[?1003l"))
    child.expect(re.escape("\x1b[?1049l"))
    child.expect(pexpect.EOF)


def test_another_escape_key(way):
    child = terminal("console", "node/pve1", "--escape", "ctrl-a", env=way)
    child.expect(r"Leave with Ctrl-A\.")
    child.expect("[#$] ")
    child.send("cat -v\r")
    child.send("\x1d\r")
    child.expect(r"\^\]")
    child.send("\x01")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@pytest.mark.parametrize("how, status", [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGSEGV, None)])
def test_the_terminal_is_as_before_after_a_signal(node, gateway, how, status):
    """A shell around it shows the settings before and after."""
    shell = pexpect.spawn(
        "/bin/sh", env={**clean_environment(**direct(node)), "PS1": "ready> "}, encoding="utf-8", timeout=30)
    shell.expect("ready> ")
    shell.sendline("stty -g | md5sum")
    shell.expect("([0-9a-f]{32})")
    before = shell.match.group(1)
    shell.expect("ready> ")
    shell.sendline(f"{PROGRAM} console node/pve1; echo status=$?")
    shell.expect("Connected")
    time.sleep(0.5)
    found = subprocess.run(
        ["pgrep", "-P", str(shell.pid), "-f", "console node/pve1"], capture_output=True, text=True, check=True)
    os.kill(int(found.stdout), how)
    shell.expect(r"status=(\d+)")
    if status:
        assert int(shell.match.group(1)) == status
    shell.expect("ready> ")
    shell.sendline("stty -g | md5sum")
    shell.expect("([0-9a-f]{32})")
    assert shell.match.group(1) == before
    shell.close(force=True)


def test_a_pipe_is_sent_and_its_answer_waited_for(way):
    result = run("console", "node/pve1", "--linger", "1.5", env=way, input="echo $((40+2))-done\n")
    assert result.returncode == 0 and "42-done" in result.stdout and result.stderr == ""


def test_a_long_input_through_a_pipe(way):
    lines = "".join(f"# line {i} of a long input\n" for i in range(2000)) + "echo last-$((1))\n"
    result = run("console", "node/pve1", "--linger", "3", env=way, input=lines)
    assert result.returncode == 0 and "last-1" in result.stdout


def test_serial_ports_and_names(way):
    result = run("console", "web1", "--serial", "0", "--linger", "1.5", env=way, input="echo s$((3))\n")
    assert result.returncode == 0 and "s3" in result.stdout


@pytest.mark.parametrize("target, status, kind", [
    ("db1", 20, "no-serial-port"), ("qemu/102", 20, "guest-not-running"), ("qemu/99999", 20, "not-found"),
    ("what/ever", 64, "usage"), ("lxc/201", 20, "guest-not-running")])
def test_why_a_console_does_not_open(way, target, status, kind):
    result = run("console", target, env=way, input="")
    assert result.returncode == status and kind in result.stderr, result.stderr
    assert "→" in result.stderr or kind == "usage"


def test_a_container_that_stops_is_seen(way, node):
    """Proxmox VE 9 leaves the connection open; what it prints is there, and the escape key leaves."""
    api = clean_environment(**direct(node))
    child = terminal("console", "ct200", env=way)
    child.expect("Connected")
    assert run("api", "post", "/nodes/pve1/lxc/200/status/stop", env=api).returncode == 0
    child.expect(r"\[EOF - dtach terminating\]")
    assert leave(child) == 0
    assert run("api", "post", "/nodes/pve1/lxc/200/status/start", env=api).returncode == 0


def test_a_vm_that_stops_ends_its_screen(way, node):
    api = clean_environment(**direct(node))
    process, card = vnc("qemu/101", env=way)
    line = Line(card["port"])
    Screen(line).picture()
    assert run("api", "post", "/nodes/pve1/qemu/101/status/stop", env=api).returncode == 0
    assert process.wait(20) == 20
    assert "guest-stopped" in process.stderr.read()
    line.close()
    assert run("api", "post", "/nodes/pve1/qemu/101/status/start", env=api).returncode == 0


def test_a_gateway_that_shuts_down_says_so(node, folder):
    service = Gateway(folder, cluster_yaml(
        f"127.0.0.1:{node['port']}", "root@pam", folder, node["users"]["root@pam"],
        f"{{ fingerprint: \"{node['fingerprint']}\" }}"))
    child = terminal(
        "console", "node/pve1", env=clean_environment(SALLYPORT_GATEWAY=service.url, SALLYPORT_API_KEY=service.key))
    child.expect("[#$] ")
    assert service.stop() == 0
    child.expect("server-shutdown")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 25


# vnc


def vnc(*arguments, env):
    process = subprocess.Popen(
        [PROGRAM, "vnc", *arguments, "--json", "--no-viewer"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
        text=True)
    return process, json.loads(process.stdout.readline())


def test_a_native_viewer(way):
    process, card = vnc("qemu/100", env=way)
    line = Line(card["port"])
    screen = Screen(line)
    before = screen.picture()
    assert before and card["host"] == "127.0.0.1"
    screen.press(ord("x"))
    assert screen.picture(incremental=True)
    line.close()
    assert process.wait(15) == 0


def test_several_viewers_in_turn(way):
    process, card = vnc("web1", "--keep", env=way)
    for _ in range(3):
        line = Line(card["port"])
        assert Screen(line).picture()
        line.close()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 130


def test_ctrl_c_ends_it_while_a_viewer_looks(way):
    process, card = vnc("web1", env=way)
    line = Line(card["port"])
    Screen(line).picture()
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 130
    line.close()


def test_a_stopped_vm_has_no_screen(way):
    process, card = vnc("qemu/102", env=way)
    with socket.create_connection(("127.0.0.1", card["port"])) as line:
        line.settimeout(30)
        assert line.recv(1) == b""
    assert process.wait(15) == 20
    assert "guest-not-running" in process.stderr.read()


def test_a_viewer_is_started(way, tmp_path):
    """A program of that name that notes its argument and connects."""
    viewer = tmp_path / "vncviewer"
    viewer.write_text(
        "#!/usr/bin/env python3\nimport socket, sys\nopen(sys.argv[0] + '.argument', 'w').write(sys.argv[1])\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1].split('::')[1])))\nassert s.recv(12)\n")
    viewer.chmod(0o755)
    result = run(
        "vnc", "qemu/100", env={**way, "PATH": f"{tmp_path}:{os.environ['PATH']}", "DISPLAY": ":99"}, timeout=30)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "vncviewer.argument").read_text().startswith("127.0.0.1::")


# inventory, link, api


def test_the_inventory_as_table_and_json(way):
    table = run("inventory", env=way)
    assert table.returncode == 0 and re.search(r"qemu/100 +web1 +pve1 +running", table.stdout)
    answer = json.loads(run("inventory", "-o", "json", env=way).stdout)
    cluster = answer["clusters"][0]
    assert {g["name"] for g in cluster["guests"]} >= {"web1", "ct200"} and cluster["nodes"][0]["status"] == "online"


def test_a_link_from_the_command_line(gateway):
    env = clean_environment(SALLYPORT_GATEWAY=gateway.url, SALLYPORT_API_KEY=gateway.key)
    result = run("link", "qemu/100", env=env)
    assert result.returncode == 0 and result.stdout.startswith(gateway.url + "/console.html#t=")
    answer = json.loads(run("link", "web1", "--console", "serial0", "--ttl", "5", "-o", "json", env=env).stdout)
    assert answer["target"] == "qemu/100" and answer["console"] == "serial0"


def test_links_need_a_gateway(node):
    result = run("link", "qemu/100", env=clean_environment(**direct(node)))
    assert result.returncode == 64 and "gateway" in result.stderr


def test_the_raw_api(node):
    env = clean_environment(**direct(node))
    assert json.loads(run("api", "get", "/version", env=env).stdout)["version"] == "9.2.11"
    upid = json.loads(run("api", "post", "/nodes/pve1/qemu/102/status/start", env=env).stdout)
    assert upid.startswith("UPID:pve1:")
    assert run("api", "post", "/nodes/pve1/qemu/102/status/stop", "--compact", env=env).returncode == 0
    by_token = {**clean_environment(**direct(node)), "SALLYPORT_PVE_TOKEN_SECRET": node["token"]["secret"]}
    result = run("api", "get", "/nodes", "--token-id", node["token"]["id"], env=by_token)
    assert result.returncode == 0 and json.loads(result.stdout)[0]["node"] == "pve1"


def test_what_the_api_refuses_is_said(node):
    env = clean_environment(**direct(node))
    bad = run("api", "post", "/nodes/pve1/qemu/100/vncproxy", "colour=red", env=env)
    assert bad.returncode != 0 and "bad-parameters" in bad.stderr and "colour" in bad.stderr
    missing = run("api", "get", "/nodes/pve1/nowhere", env=env)
    assert missing.returncode != 0 and "not-implemented" in missing.stderr
    auditor = {**env, "SALLYPORT_PVE_USER": "auditor@pve", "SALLYPORT_PVE_PASSWORD": node["users"]["auditor@pve"]}
    forbidden = run("api", "post", "/nodes/pve1/qemu/100/vncproxy", "websocket=1", env=auditor)
    assert forbidden.returncode == 21 and "VM.Console" in forbidden.stderr


# Credentials and configuration


def test_a_password_and_a_code_are_asked_for(node):
    env = clean_environment(
        SALLYPORT_PVE_HOST=f"127.0.0.1:{node['port']}", SALLYPORT_PVE_FINGERPRINT=node["fingerprint"])
    child = terminal("inventory", "--user", "totp@pve", env=env)
    child.expect("Password of totp@pve: ")
    child.sendline(node["users"]["totp@pve"])
    child.expect("recovery code: ")
    child.sendline("1111-2222-3333-4444")
    child.expect("web1")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_secrets_from_files(node, tmp_path):
    password = tmp_path / "password"
    password.write_text(node["users"]["totp@pve"] + "\n")
    totp = tmp_path / "totp"
    totp.write_text("JBSWY3DPEHPK3PXP\n")
    result = run(
        "inventory", "--host", f"127.0.0.1:{node['port']}", "--fingerprint", node["fingerprint"], "--user", "totp@pve",
        "--password-file", str(password), "--totp-secret-file", str(totp), env=clean_environment())
    assert result.returncode == 0, result.stderr


def test_ctrl_c_at_a_question_gives_the_terminal_back(node):
    env = {**clean_environment(
        SALLYPORT_PVE_HOST=f"127.0.0.1:{node['port']}", SALLYPORT_PVE_FINGERPRINT=node["fingerprint"]), "PS1": "ready> "}
    shell = pexpect.spawn("/bin/sh", env=env, encoding="utf-8", timeout=30)
    shell.expect("ready> ")
    shell.sendline(f"{PROGRAM} inventory --user root@pam; echo status=$?")
    shell.expect("Password of root@pam: ")
    shell.send("secret\x03")
    shell.expect("status=130")
    assert "secret" not in shell.before
    shell.sendline("stty -a")
    shell.expect(" (-?)echo ")
    assert shell.match.group(1) == ""
    shell.close(force=True)


def test_the_cluster_may_stand_in_front(way, gateway):
    env = clean_environment(SALLYPORT_GATEWAY=gateway.url, SALLYPORT_API_KEY=gateway.key)
    assert run("link", "test:qemu/100", env=env).returncode == 0
    wrong = run("link", "other:qemu/100", env=env)
    assert wrong.returncode == 20 and "unknown-cluster" in wrong.stderr


def test_a_gateway_by_name(gateway):
    """`localhost` may have two addresses, and the gateway listens on one."""
    env = clean_environment(SALLYPORT_GATEWAY=gateway.url.replace("127.0.0.1", "localhost"), SALLYPORT_API_KEY=gateway.key)
    result = run("console", "node/pve1", "--linger", "1", env=env, input="echo n$((1))\n")
    assert result.returncode == 0 and "n1" in result.stdout, result.stderr


def test_no_terminal_and_no_code_is_said(node):
    env = clean_environment(**{**direct(node), "SALLYPORT_PVE_USER": "totp@pve",
                               "SALLYPORT_PVE_PASSWORD": node["users"]["totp@pve"]})
    result = subprocess.run(
        [PROGRAM, "inventory"], env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, start_new_session=True)
    assert result.returncode == 21 and "second" in result.stderr, result.stderr


def test_the_configuration_file_serves_the_commands_too(node, gateway):
    for arguments in (["inventory"], ["inventory", "--cluster", "test"]):
        assert run(*arguments, "--config", str(gateway.config), env=clean_environment()).returncode == 0
    wrong = run("inventory", "--cluster", "other", "--config", str(gateway.config), env=clean_environment())
    assert wrong.returncode == 64 and "test" in wrong.stderr


def test_a_wrong_fingerprint_shows_the_right_one(node):
    result = run("inventory", env=clean_environment(**{**direct(node), "SALLYPORT_PVE_FINGERPRINT": ":".join(["AA"] * 32)}))
    assert result.returncode == 22 and node["fingerprint"] in result.stderr


def test_an_unreachable_node(node):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        env = clean_environment(**{**direct(node), "SALLYPORT_PVE_HOST": f"127.0.0.1:{taken.getsockname()[1]}"})
        result = run("inventory", env=env)
    assert result.returncode == 22 and "api-unreachable" in result.stderr


@pytest.mark.parametrize("arguments, status", [
    (["inventory"], 78), (["nonsense"], 64), (["console"], 64), (["inventory", "--host", "a b"], 64),
    (["inventory", "--gateway", "http://far.example"], 78), (["serve", "--config", "/nonexistent"], 78),
    (["inventory", "--host", "h", "--gateway", "http://127.0.0.1:1"], 64)])
def test_usage_and_configuration_errors(arguments, status):
    result = run(*arguments, env=clean_environment())
    assert result.returncode == status and result.stderr


def test_plain_http_to_another_machine_is_refused():
    result = run("inventory", "--gateway", "http://far.example", env=clean_environment(SALLYPORT_API_KEY="k" * 20))
    assert result.returncode == 64 and "https" in result.stderr


# serve, demo


def test_check_says_what_is_there(node, gateway):
    result = run("serve", "--config", str(gateway.config), "--check", env=clean_environment(SALLYPORT_API_KEY=gateway.key))
    assert result.returncode == 0 and "Proxmox VE 9.2.11 answers" in result.stdout, result.stdout


def test_check_says_what_is_wrong(node, folder, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(cluster_yaml(
        f"127.0.0.1:{node['port']}", "root@pam", tmp_path, "wrong", f"{{ fingerprint: \"{node['fingerprint']}\" }}"))
    result = run("serve", "--config", str(config), "--check", env=clean_environment())
    assert result.returncode == 21 and "login-failed" in result.stdout
    config.write_text(config.read_text() + "colour: red\n")
    assert "colour" in run("serve", "--config", str(config), "--check", env=clean_environment()).stderr


def test_a_taken_port_is_said(gateway):
    port = gateway.card["port"]
    result = run(
        "serve", "--config", str(gateway.config), "--listen", f"127.0.0.1:{port}",
        env=clean_environment(SALLYPORT_API_KEY=gateway.key))
    assert result.returncode == 78 and str(port) in result.stderr


def test_a_public_address_without_tls_is_refused(gateway):
    result = run(
        "serve", "--config", str(gateway.config), "--listen", "0.0.0.0:0", env=clean_environment(SALLYPORT_API_KEY=gateway.key))
    assert result.returncode == 78 and "TLS" in result.stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_starts_and_ends(how):
    demo = Service("demo", "--json", "--port", "0")
    assert demo.card["link"].startswith(demo.card["url"] + "/console.html#t=")
    assert demo.card["inventory"] == f"{demo.card['url']}/#key={demo.card['key']}"
    env = clean_environment(SALLYPORT_GATEWAY=demo.card["url"], SALLYPORT_API_KEY=demo.card["key"])
    assert "web1" in run("inventory", env=env).stdout
    assert demo.stop(how) == 0, demo.log


def test_help_teaches():
    for command in ("demo", "serve", "console", "vnc", "link", "inventory", "api", "node"):
        result = run(command, "--help", env=clean_environment())
        assert result.returncode == 0 and f"sallyport {command}" in result.stdout
