#!/usr/bin/env python3
"""A customer portal in miniature: it knows whose guests are whose, and shows their consoles.

    SALLYPORT_URL=http://127.0.0.1:8080 SALLYPORT_API_KEY=… python3 portal.py [PORT]

Standard library only. Who is logged in is a constant here; in a portal it is the session.
"""

import html
import http.server
import json
import os
import sys
import urllib.error
import urllib.request

GATEWAY = os.environ["SALLYPORT_URL"].rstrip("/")
KEY = os.environ["SALLYPORT_API_KEY"]
# Which guests the customer may open, and how.
CUSTOMER = {"name": "Ada", "guests": {"qemu/100": "vnc", "lxc/200": "terminal"}}


def console_link(target, console):
    """Asks the gateway for a link that is good once, within 30 seconds, for a console of at most an hour."""
    body = {"target": target, "console": console, "ttl": 30, "maxDuration": 3600}
    request = urllib.request.Request(
        GATEWAY + "/v1/consoles", data=json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + KEY, "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["url"]


PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 system-ui; margin: 2rem }} iframe {{ width: 100%; height: 70vh; border: 1px solid #ccc;
border-radius: 8px }}</style><h1>{title}</h1>{body}</html>"""


class Portal(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/":
            items = "".join(
                f'<li><a href="/console/{html.escape(guest)}">{html.escape(guest)}</a></li>' for guest in CUSTOMER["guests"])
            return self.page(200, f"Guests of {CUSTOMER['name']}", f"<ul>{items}</ul>")
        if self.path.startswith("/console/"):
            guest = self.path.removeprefix("/console/")
            console = CUSTOMER["guests"].get(guest)
            # The portal's decision, before the gateway is asked anything.
            if console is None:
                return self.page(403, "Not yours", "<p>There is no such guest in your contract.</p>")
            try:
                link = console_link(guest, console)
            except urllib.error.HTTPError as error:
                problem = json.load(error)
                return self.page(502, "No console", f"<p>{html.escape(problem['detail'])}</p>")
            except OSError as error:
                return self.page(502, "No console", f"<p>The gateway can't be reached: {html.escape(str(error))}</p>")
            return self.page(
                200, guest, f'<iframe src="{html.escape(link)}" allow="clipboard-read; clipboard-write; fullscreen"></iframe>')
        self.page(404, "Nothing here", "")

    def page(self, status, title, body):
        data = PAGE.format(title=html.escape(title), body=body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        # The page holds a link that is good once: no cache may keep it.
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8000), Portal)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
