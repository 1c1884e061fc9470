"""A headless Chromium on the page, served by the mock gateway or by a real one.

SALLYPORT_URL (the page's folder, e.g. http://127.0.0.1:8080/) and SALLYPORT_KEY (an API key) name a real
gateway on the embedded node. Without them the mock is used, below a path prefix.
Screenshots go to SALLYPORT_ARTEFACTS, or artefacts/browser in the repository.
"""

import json
import os
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
ARTEFACTS = pathlib.Path(os.environ.get("SALLYPORT_ARTEFACTS", HERE.parents[1] / "artefacts" / "browser"))
PATIENCE = float(os.environ.get("SALLYPORT_PATIENCE", "30"))


def pytest_collection_modifyitems(config, items):
    """SALLYPORT_MOCK_ONLY leaves those tests that a real gateway has to skip."""
    if os.environ.get("SALLYPORT_MOCK_ONLY"):
        rest = [item for item in items if "mock" not in item.fixturenames]
        config.hook.pytest_deselected(items=rest)
        items[:] = [item for item in items if "mock" in item.fixturenames]


class Gateway:
    def __init__(self, base, key, mock):
        self.base = base if base.endswith("/") else base + "/"
        self.key = key
        self.mock = mock

    def call(self, method, path, body=None, key=None):
        request = urllib.request.Request(
            urllib.parse.urljoin(self.base, path), method=method, data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key or self.key}", "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode(errors='replace')}") from error
        return json.loads(text) if text else None

    def link(self, target, console, **more):
        """A one-time link: the answer of POST /v1/consoles."""
        return self.call("POST", "v1/consoles", {"target": target, "console": console, **more})


@pytest.fixture(scope="session")
def gateway():
    url = os.environ.get("SALLYPORT_URL")
    if url:
        yield Gateway(url, os.environ["SALLYPORT_KEY"], mock=False)
        return
    import mock_gateway
    server, base, key = mock_gateway.serve(prefix="/apps/sallyport")
    yield Gateway(base, key, mock=True)
    server.shutdown()


@pytest.fixture
def mock(gateway):
    if not gateway.mock:
        pytest.skip("needs a fault that only the mock gateway makes")
    return gateway


class Page:
    """One browser on one gateway, and what a person does with it."""

    def __init__(self, driver, gateway):
        self.driver = driver
        self.gateway = gateway

    # Looking

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, what, check, patience=PATIENCE):
        end = time.monotonic() + patience
        last = None
        while time.monotonic() < end:
            try:
                last = check()
            except Exception as error:  # an element may be replaced while it is looked at
                last = error
            if last and not isinstance(last, Exception):
                return last
            time.sleep(0.05)
        self.shot(f"failed-{what}")
        raise AssertionError(f"waited {patience} s for: {what}. Last: {last!r}. State: {self.state()}")

    def state(self):
        return self.js("""return window.sallyport
            ? {phase: sallyport.phase, stage: sallyport.stage, ending: sallyport.ending, ready: sallyport.ready, text: sallyport.text().slice(-2000)}
            : {body: document.body.innerText.slice(0, 2000)}""")

    def find(self, testid):
        return self.driver.find_element(By.CSS_SELECTOR, f'[data-testid="{testid}"]')

    def all(self, testid):
        """Those that can be seen."""
        return [e for e in self.driver.find_elements(By.CSS_SELECTOR, f'[data-testid="{testid}"]') if e.is_displayed()]

    def see(self, testid, patience=PATIENCE):
        def visible():
            element = self.find(testid)
            return element if element.is_displayed() else None
        return self.wait(f"{testid} to be seen", visible, patience)

    def click(self, testid):
        """By a press on it, behind "More actions" where there is no room for it."""
        element = self.find(testid)
        if not element.is_displayed() and self.all("more"):
            self.find("more").click()
        self.see(testid).click()

    def text(self):
        return self.js("return sallyport.text()")

    def expect(self, text, patience=PATIENCE):
        self.wait(f"the terminal to show {text!r}", lambda: text in self.text(), patience)

    def picture(self):
        """A number for what the screen shows now."""
        return self.js("""const c = document.querySelector('#console canvas'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            let h = 5381; for (let i = 0; i < d.length; i += 4) h = ((h * 33) ^ (d[i] << 16 | d[i+1] << 8 | d[i+2])) | 0; return h + ':' + c.width + 'x' + c.height;""")

    def shot(self, name):
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        name = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:80]
        self.driver.save_screenshot(str(ARTEFACTS / f"{name}.png"))

    # Doing

    def open_inventory(self):
        self.driver.get("about:blank")
        self.driver.get(f"{self.gateway.base}#key={self.gateway.key}")
        self.see("cluster")

    def give_key(self):
        """As if the inventory had been used in this tab before."""
        self.driver.get(self.gateway.base + "favicon.svg")
        self.js("sessionStorage.setItem('sallyport.key', arguments[0])", self.gateway.key)

    def open(self, target, console, wait="open", key=True, **more):
        """Opens a console by a fresh one-time link."""
        if key:
            self.give_key()
        link = self.gateway.link(target, console, **more)
        self.driver.get("about:blank")
        self.driver.get(f"{self.gateway.base}console.html#t={link['token']}")
        if wait:
            self.wait(f"{target} {console} to be {wait}", lambda: self.js("return window.sallyport?.phase") == wait)
        return link

    def keys(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def command(self, line):
        """Types a line into the terminal."""
        self.js("sallyport.terminal.focus()")
        self.keys(line, Keys.ENTER)

    def chord(self, *keys):
        actions = ActionChains(self.driver)
        for key in keys[:-1]:
            actions.key_down(key)
        actions.send_keys(keys[-1])
        for key in reversed(keys[:-1]):
            actions.key_up(key)
        actions.perform()

    def ended(self, *kinds):
        panel = self.see("ended")
        kind = panel.get_attribute("data-kind")
        assert not kinds or kind in kinds, self.state()
        assert self.find("ended-sentence").text.strip()
        return panel

    def window(self, width, height, phone=False):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone})
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})

    def colours(self, scheme):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})


WATCH = """
window.__violations = [];
document.addEventListener('securitypolicyviolation', (e) => window.__violations.push(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sourceFile + ':' + e.lineNumber));
"""


@pytest.fixture
def page(gateway, request):
    options = webdriver.ChromeOptions()
    options.binary_location = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--window-size=1360,860", "--force-color-profile=srgb",
        "--disable-background-networking", "--disable-component-update", "--no-first-run",
    ):
        options.add_argument(argument)
    if gateway.base.startswith("https:"):
        options.add_argument("--ignore-certificate-errors")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    os.environ.setdefault("SE_OFFLINE", "true")
    driver = webdriver.Chrome(options=options, service=Service(os.environ.get("CHROMEDRIVER", "/usr/bin/chromedriver")))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    page = Page(driver, gateway)
    page.window(1360, 860)
    page.colours("dark")
    try:
        yield page
        check_conduct(page)
    finally:
        driver.quit()


def check_conduct(page):
    """After every test: the policy was never violated, nothing was thrown, no other host was asked."""
    violations = page.js("return window.__violations ?? []")
    assert not violations, violations
    for entry in page.driver.get_log("browser"):
        message = entry["message"]
        assert "Content Security Policy" not in message, message
        assert "Uncaught" not in message, message
    host = urllib.parse.urlsplit(page.gateway.base).netloc
    asked = set()
    for entry in page.driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        parameters = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(parameters["request"]["url"])
        elif message["method"] == "Network.webSocketCreated":
            asked.add(parameters["url"])
    for url in asked:
        parts = urllib.parse.urlsplit(url)
        assert parts.scheme in ("data", "blob", "about", "chrome", "chrome-error") or parts.netloc == host, f"another host was asked: {url}"
        assert page.gateway.key not in url.split("#")[0], "the API key was in a request's address"
