"""A viewer of the gateway made of the Python package `websockets`."""

import json
import re
import time
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect


class Viewer:
    """One websocket on /v1/viewer."""

    def __init__(self, gateway, link=None, *, origin="own", size=(100, 30), token=None, opening=True, acks=False,
                 notices=False, subprotocols=("sallyport.v1",)):
        parts = urlsplit(gateway.url)
        self.messages = []
        self.data = b""
        # A context manager in every version of the package; in some, nothing else.
        self._connection = connect(
            f"ws://{parts.netloc}{parts.path}/v1/viewer", subprotocols=list(subprotocols), max_size=None, open_timeout=15,
            origin=f"{parts.scheme}://{parts.netloc}" if origin == "own" else origin)
        self.socket = self._connection.__enter__()
        if opening:
            message = {"type": "open", "token": token or link["token"], "acks": acks, "notices": notices}
            if size:
                message["columns"], message["rows"] = size
            self.say(message)

    def say(self, message):
        self.socket.send(json.dumps(message))

    def type(self, text):
        self.socket.send(text.encode() if isinstance(text, str) else text)

    def pump(self, timeout):
        """Takes one frame. False at the end of patience."""
        try:
            frame = self.socket.recv(timeout=timeout)
        except TimeoutError:
            return False
        if isinstance(frame, str):
            self.messages.append(json.loads(frame))
        else:
            self.data += frame
        return True

    def wait(self, condition, what, patience=30):
        deadline = time.monotonic() + patience
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0 and self.pump(left), f"no {what}; {self.messages} {self.data[-500:]!r}"

    def ready(self):
        self.wait(lambda: self.of("ready"), "ready")
        return self.of("ready")

    def of(self, kind):
        return next((m for m in self.messages if m["type"] == kind), None)

    def read_until(self, pattern, patience=30):
        pattern = pattern if isinstance(pattern, bytes) else pattern.encode()
        self.wait(lambda: re.search(pattern, self.data), pattern, patience)
        match = re.search(pattern, self.data)
        self.data = self.data[match.end():]
        return match

    def take(self, count, patience=30):
        """Exactly so many bytes."""
        self.wait(lambda: len(self.data) >= count, f"{count} bytes", patience)
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def end(self, patience=30):
        """(close code, reason) once the gateway has closed."""
        deadline = time.monotonic() + patience
        try:
            while self.pump(max(0.01, deadline - time.monotonic())):
                pass
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "the connection ended without a close frame (1006)"
            return closed.rcvd.code, closed.rcvd.reason
        raise AssertionError(f"still open: {self.messages}")

    def close(self):
        self._connection.__exit__(None, None, None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
