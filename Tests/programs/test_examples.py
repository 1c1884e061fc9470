"""Every example and every configuration, run against the embedded node."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from conftest import PROGRAM, ROOT, Gateway, clean_environment, cluster_yaml
from viewer import Viewer

EXAMPLES = ROOT / "examples"


@pytest.fixture
def portal(gateway):
    process = subprocess.Popen(
        ["python3", "-u", str(EXAMPLES / "portal/portal.py"), "0"], stdout=subprocess.PIPE, text=True,
        env=clean_environment(SALLYPORT_URL=gateway.url, SALLYPORT_API_KEY=gateway.key))
    yield process.stdout.readline().strip()
    process.terminate()
    process.wait(10)


def fetch(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def test_the_portal_embeds_a_console(portal, gateway):
    assert "/console/qemu/100" in fetch(portal)
    page = fetch(portal + "console/lxc/200")
    link = re.search(r'<iframe src="([^"]+)"', page).group(1)
    assert link.startswith(gateway.url + "/console.html#t=") and gateway.key not in page
    with Viewer(gateway, token=link.split("#t=")[1]) as viewer:
        assert viewer.ready()["target"] == "lxc/200"


def test_the_portal_refuses_what_is_not_the_customers(portal):
    with pytest.raises(urllib.error.HTTPError) as refusal:
        fetch(portal + "console/node/pve1")
    assert refusal.value.code == 403


def test_the_frame_is_allowed_only_where_it_is_configured(node, folder, gateway):
    assert "frame-ancestors 'none'" in urllib.request.urlopen(gateway.url + "/console.html").headers["Content-Security-Policy"]
    other = Gateway(folder, "frameAncestors: [\"http://127.0.0.1:8000\"]\n" + cluster_yaml(
        f"127.0.0.1:{node['port']}", "root@pam", folder, node["users"]["root@pam"],
        f"{{ fingerprint: \"{node['fingerprint']}\" }}"))
    policy = urllib.request.urlopen(other.url + "/console.html").headers["Content-Security-Policy"]
    assert other.stop() == 0
    assert "frame-ancestors http://127.0.0.1:8000" in policy


def test_the_shell_script_opens_a_terminal(way):
    result = subprocess.run(
        [str(EXAMPLES / "terminal.sh"), "ct200"], input="echo from-a-$((1+1))\n", text=True, capture_output=True, timeout=60,
        env={**way, "SALLYPORT": PROGRAM})
    assert result.returncode == 0 and "from-a-2" in result.stdout, result.stderr


def test_the_shell_script_makes_a_link(gateway):
    result = subprocess.run(
        [str(EXAMPLES / "terminal.sh"), "ct200", "--link"], text=True, capture_output=True, timeout=60,
        env=clean_environment(SALLYPORT_GATEWAY=gateway.url, SALLYPORT_API_KEY=gateway.key))
    assert result.returncode == 0 and "/console.html#t=" in result.stdout, result.stderr


@pytest.mark.timeout(900)
def test_the_swift_program_lists_the_cluster(node):
    scratch = ROOT / ".build-example"
    folder = EXAMPLES / "swift-client"
    subprocess.run(
        ["swift", "build", "--build-tests", "--package-path", str(folder), "--scratch-path", str(scratch)], check=True,
        capture_output=True, text=True)
    tests = subprocess.run(
        ["swift", "test", "--skip-build", "--disable-xctest", "--package-path", str(folder), "--scratch-path", str(scratch)],
        capture_output=True, text=True, timeout=120)
    assert tests.returncode == 0 and "Test run with 2 tests" in tests.stdout, tests.stdout + tests.stderr
    result = subprocess.run(
        [str(scratch / "debug/Inventory")], capture_output=True, text=True, timeout=60, env=clean_environment(
            HOST=f"127.0.0.1:{node['port']}", TOKEN_ID=node["token"]["id"], TOKEN_SECRET=node["token"]["secret"],
            PIN=node["fingerprint"]))
    assert result.returncode == 0 and "Proxmox VE 9.2.11" in result.stdout and "qemu/100\tweb1\trunning" in result.stdout


def test_a_tool_is_tested_with_the_node():
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "test-your-tool")],
        capture_output=True, text=True, timeout=120, env={**os.environ, "SALLYPORT": PROGRAM})
    assert result.returncode == 0 and "4 passed" in result.stdout, result.stdout + result.stderr


def test_faults_are_made_with_curl():
    result = subprocess.run(
        [str(EXAMPLES / "test-your-tool/faults.sh")], capture_output=True, text=True, timeout=60,
        env=clean_environment(SALLYPORT=PROGRAM))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "request 1: 200", "request 2: 200", "request 3: 500", "request 4: 200", *["GET /api2/json/version " + status
        for status in ("200", "200", "500", "200")]]


def check(config, **environment):
    return subprocess.run(
        [PROGRAM, "serve", "--config", str(config), "--check"], capture_output=True, text=True, timeout=60,
        env=clean_environment(**environment))


def test_the_least_configuration_works(node, tmp_path):
    text = (ROOT / "config/minimal.yaml").read_text()
    text = text.replace("192.0.2.10", f"127.0.0.1:{node['port']}").replace("root@pam!sallyport", node["token"]["id"])
    config = tmp_path / "minimal.yaml"
    config.write_text(re.sub(r'fingerprint: "[^"]+"', f'fingerprint: "{node["fingerprint"]}"', text))
    result = check(config, SALLYPORT_KEY="k" * 32, SALLYPORT_TOKEN=node["token"]["secret"])
    assert result.returncode == 0 and "Proxmox VE 9.2.11 answers" in result.stdout, result.stdout + result.stderr


def adapted(node, tmp_path, text):
    """The full configuration with this test's node, its files beside it."""
    (tmp_path / "token").write_text(node["token"]["secret"])
    (tmp_path / "key").write_text("k" * 40)
    for old, new in (
            ("/etc/sallyport/credentials/pve-token", "token"), ("/etc/sallyport/credentials/api-key", "key"),
            ("sallyport@pve!gateway", node["token"]["id"]), ("192.0.2.11:8006", "192.0.2.11:8006"),
            ("pve1.example.com", f"127.0.0.1:{node['port']}")):
        assert old in text
        text = text.replace(old, new)
    return re.sub(r'fingerprint: "[^"]+"', f'fingerprint: "{node["fingerprint"]}"', text)


def test_the_full_configuration_works(node, tmp_path):
    config = tmp_path / "sallyport.yaml"
    config.write_text(adapted(node, tmp_path, (ROOT / "config/sallyport.yaml").read_text()))
    result = check(config)
    assert result.returncode == 0 and "Proxmox VE 9.2.11 answers" in result.stdout, result.stdout + result.stderr


def test_what_is_commented_out_is_right_too(node, tmp_path):
    """Every setting that is shown as a comment is a known key with a value that is taken."""
    lines = []
    for line in (ROOT / "config/sallyport.yaml").read_text().splitlines():
        # Alternatives that exclude what is in force, or name files of elsewhere.
        if re.search(r"insecure|caFile|client(Certificate|Key)File|webRoot|totpSecretFile|# user:|# (tls|  certificateFile|  keyFile)", line):
            continue
        if re.search(r"name: \"sallyport@pve\"|pve-password|consoleUser|root@pam|pve-console|letsencrypt|CI_CONSOLE", line):
            continue
        lines.append(re.sub(r"^( *)# (?=( *(- )?[a-zA-Z]+: *(\S.*)?$))(?! *(openssl|pveum|sallyport))", r"\1", line)
                     if re.match(r" *# +(links|sessions|limits|timeouts|trustedProxies|allowedOrigins|frameAncestors|loops|ttl|maximum\w+|idle"
                                 r"|exec(?=:\s*$)|keepFor|outputLimit|agentWait|agentMode|maxDuration|history|attempts|firstMessage|dial|pingInterval|deadAfter|slowViewer|rfbKeepAlive|connect|total)\b.*:",
                                 line) else line)
    text = "\n".join(lines)
    assert "\nlimits:" in text and "\n    timeouts:" in text and "\nloops: 2" in text
    config = tmp_path / "sallyport.yaml"
    config.write_text(adapted(node, tmp_path, text))
    result = check(config)
    assert result.returncode == 0, result.stdout + result.stderr


def test_readme_and_docs_point_at_files_that_exist():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *EXAMPLES.glob("**/README.md")]
    assert len(pages) > 3
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith(("http:", "https:")):
                assert (page.parent / target).exists(), f"{page.name} points at {target}"
