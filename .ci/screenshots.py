#!/usr/bin/env python3
"""Takes the pictures of docs/images from the real page: a headless Chromium on `sallyport demo`.

    .build-venv/bin/python .ci/screenshots.py
"""

import io
import json
import pathlib
import subprocess
import sys
import time
import urllib.request

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

ROOT = pathlib.Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs/images"


def program():
    built = [p for p in (ROOT / ".build/debug/sallyport", ROOT / ".build/release/sallyport") if p.exists()]
    return str(max(built, key=lambda p: p.stat().st_mtime))


def browser(width, height, dark):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in (
            "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-gl=angle", "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader", "--hide-scrollbars", f"--window-size={width},{height}"):
        options.add_argument(argument)
    if dark:
        options.add_argument("--force-dark-mode")
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
    return driver


def wait(driver, script, *arguments):
    for _ in range(300):
        if driver.execute_script(script, *arguments):
            return
        time.sleep(0.1)
    sys.exit(f"never true: {script}")


def save(driver, name):
    IMAGES.mkdir(parents=True, exist_ok=True)
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    picture = picture.quantize(colors=200, dither=Image.Dither.NONE)
    picture.save(IMAGES / f"{name}.png", optimize=True)
    print(f"docs/images/{name}.png: {(IMAGES / f'{name}.png').stat().st_size} bytes")


def link(demo, target, console):
    request = urllib.request.Request(
        demo["url"] + "/v1/consoles", data=json.dumps({"target": target, "console": console}).encode(),
        headers={"Authorization": "Bearer " + demo["key"], "Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))["url"]


def terminal(driver, demo):
    driver.get(link(demo, "lxc/200", "terminal"))
    wait(driver, "return window.sallyport?.phase === 'open'")
    time.sleep(0.8)
    for line in (
            "mkdir -p /tmp/shop/public /tmp/shop/logs; cd /tmp/shop; echo 'listen: 8080' > shop.yaml; touch deploy.sh; "
            "chmod +x deploy.sh; clear", "ls -l --color=always", "cat shop.yaml",
            "for c in 1 2 3 4 5 6; do printf '\\033[3%sm■■■■■■ ' $c; done; printf '\\033[0m\\n'", "echo grüße, naïve, ✓",
            "rm -r /tmp/shop"):
        driver.execute_script("sallyport.terminal.input(arguments[0] + '\\r')", line)
        time.sleep(0.4)
    time.sleep(0.6)


def main():
    demo_process = subprocess.Popen(
        [program(), "demo", "--json", "--port", "0"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    demo = json.loads(demo_process.stdout.readline())
    drivers = []
    try:
        light = browser(1280, 760, dark=False)
        drivers.append(light)
        light.get(demo["inventory"])
        wait(light, "return !!document.querySelector('[data-testid=cluster]')")
        time.sleep(1)
        save(light, "inventory")
        dark = browser(1280, 760, dark=True)
        drivers.append(dark)
        terminal(dark, demo)
        save(dark, "terminal")
        dark.get("about:blank")
        dark.get(link(demo, "qemu/100", "vnc"))
        wait(dark, "return window.sallyport?.phase === 'open'")
        time.sleep(2)
        save(dark, "screen")
        dark.get("about:blank")
        dark.get(link(demo, "qemu/101", "terminal"))
        wait(dark, "return window.sallyport?.phase === 'ended'")
        time.sleep(1)
        save(dark, "ended")
    finally:
        for driver in drivers:
            driver.quit()
        demo_process.terminate()
        demo_process.wait(20)


if __name__ == "__main__":
    main()
