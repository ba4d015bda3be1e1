"""As much of a WebSocket client as a kernel's channel needs: JSON texts over TLS."""

import base64
import json
import os
import socket
import ssl
import struct
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tests.support.deadlines import DEADLINE

TEXT, PING = 1, 9


class WebSocket:
    """A connection to a server that sends whole texts."""

    def __init__(self, url: str, context: ssl.SSLContext, cookies: str) -> None:
        parts = urlsplit(url)
        plain = socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE)
        self._socket = context.wrap_socket(plain, server_hostname=parts.hostname)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nCookie: {cookies}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._stream = self._socket.makefile("rb")
        status = self._stream.readline()
        assert b" 101 " in status, status
        while self._stream.readline() != b"\r\n":
            pass

    def send(self, message: dict[str, Any]) -> None:
        """Send a text; a client's are masked."""
        content, mask = json.dumps(message).encode(), os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(content))
        head = struct.pack("!BBH", 0x80 | TEXT, 0x80 | 126, len(content))
        self._socket.sendall(head + mask + masked)

    def receive(self) -> dict[str, Any]:
        """The next text."""
        while True:
            kind, size = struct.unpack("!BB", self._stream.read(2))
            if size == 126:
                (size,) = struct.unpack("!H", self._stream.read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._stream.read(8))
            content = self._stream.read(size)
            if kind & 0x0F == TEXT:
                message: dict[str, Any] = json.loads(content)
                return message
            assert kind & 0x0F == PING, kind

    def __enter__(self) -> "WebSocket":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._socket.close()
