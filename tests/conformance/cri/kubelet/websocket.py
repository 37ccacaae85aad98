"""A remote command by WebSocket (v5.channel.k8s.io), as kubectl speaks to a kubelet: no more than these tests need."""

import base64
import json
import os
import socket
import ssl
import struct
import urllib.parse

STDIN, STDOUT, STDERR, STATUS, CLOSE = 0, 1, 2, 3, 255


class Command:
    """A command at https://HOST:PORT/PATH; certificates are not looked at."""

    def __init__(self, host, port, path, query):
        context = ssl._create_unverified_context()
        self.socket = context.wrap_socket(socket.create_connection((host, port), timeout=60))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET {path}?{urllib.parse.urlencode(query)} HTTP/1.1\r\nHost: {host}:{port}\r\n"
                             "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                             f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n").encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.output = {STDOUT: b"", STDERR: b"", STATUS: b""}

    def _more(self):
        data = self.socket.recv(65536)
        assert data, "the kubelet closed the connection"
        self.buffer += data

    def _take(self, count):
        while len(self.buffer) < count:
            self._more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def _frame(self):
        opcode, length = self._take(2)
        length &= 127
        if length == 126:
            length = struct.unpack("!H", self._take(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", self._take(8))[0]
        return opcode & 15, self._take(length)

    def send(self, channel, data):
        payload = bytes([channel]) + data
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + struct.pack("!H", len(payload))
        self.socket.sendall(b"\x82" + size + b"\0\0\0\0" + payload)  # masked with zeros

    def end_input(self):
        self.send(CLOSE, bytes([STDIN]))

    def finish(self):
        """Reads to the end; the v1.Status."""
        channel = None
        while True:
            opcode, payload = self._frame()
            if opcode == 8:
                self.socket.close()
                return json.loads(self.output[STATUS])
            if opcode in (1, 2):
                channel, payload = payload[0], payload[1:]
            if opcode in (0, 1, 2):
                self.output[channel] += payload
