"""As much of an RFB client as a test needs, over anything with `take(count)` and `type(bytes)`."""

import socket
import struct


class Line:
    """A TCP connection with the two methods."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)

    def take(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, f"the connection ended after {len(data)} of {count} bytes"
            data += piece
        return data

    def type(self, data):
        self.socket.sendall(data)

    def close(self):
        self.socket.close()


class Screen:
    """Logs in without a password, as the gateway and `sallyport vnc` offer it, and asks for raw pixels."""

    def __init__(self, line):
        self.line = line
        assert line.take(12) == b"RFB 003.008\n"
        line.type(b"RFB 003.008\n")
        kinds = line.take(line.take(1)[0])
        assert kinds == b"\x01", f"security types {kinds!r}: None alone was expected"
        line.type(b"\x01")
        assert line.take(4) == bytes(4)
        line.type(b"\x00")  # not shared: the gateway must make it shared
        head = line.take(24)
        self.width, self.height = struct.unpack(">HH", head[:4])
        self.name = line.take(struct.unpack(">I", head[20:])[0]).decode()
        # 32 bits, little-endian, blue in the lowest byte.
        line.type(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))
        line.type(struct.pack(">BxHii", 2, 2, 0, -223))

    def picture(self, incremental=False):
        """The next update: {(x, y): raw pixels of a rectangle}; the screen's size is kept up to date."""
        self.line.type(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))
        while True:
            kind = self.line.take(1)[0]
            if kind == 0:
                count = struct.unpack(">xH", self.line.take(3))[0]
                rectangles = {}
                for _ in range(count):
                    x, y, width, height, encoding = struct.unpack(">HHHHi", self.line.take(12))
                    if encoding == -223:
                        self.width, self.height = width, height
                    else:
                        assert encoding == 0, encoding
                        rectangles[(x, y)] = self.line.take(width * height * 4)
                if rectangles:
                    return rectangles
                self.line.type(struct.pack(">BBHHHH", 3, 0, 0, 0, self.width, self.height))
            elif kind == 1:
                _, count = struct.unpack(">xHH", self.line.take(5))
                self.line.take(count * 6)
            elif kind == 2:
                pass
            elif kind == 3:
                self.line.take(struct.unpack(">xxxI", self.line.take(7))[0])
            else:
                raise AssertionError(f"message {kind}")

    def press(self, *symbols):
        for symbol in symbols:
            for down in (1, 0):
                self.line.type(struct.pack(">BBxxI", 4, down, symbol))
