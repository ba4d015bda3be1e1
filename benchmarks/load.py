"""The load generator: many HTTP connections in one thread, each waiting for its answer.

It works on raw sockets and prepared bytes, about 30 microseconds a request, so that it leaves
the cores to the service it measures.
"""

import json
import selectors
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from devstack.ports import HOST

#: Seconds without any answer after which a run is given up.
PATIENCE = 60


class LoadFailed(RuntimeError):
    """The service did not answer as the measure needs it to."""


@dataclass(frozen=True)
class Load:
    """What a run of requests took."""

    seconds: float
    #: Milliseconds from sending each request to the last byte of its answer.
    times: list[float]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.times) / self.seconds


def request(
    method: str, path: str, token: str, body: Any = None, headers: dict[str, str] | None = None
) -> bytes:
    """Return a whole HTTP request as it goes over the wire."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {HOST}",
        f"X-StorageApi-Token: {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


def lasting(seconds: float, requests: Iterable[bytes]) -> Iterator[bytes]:
    """Yield requests until the time is over."""
    end = time.perf_counter() + seconds
    return takewhile(lambda _: time.perf_counter() < end, requests)


def run_load(
    port: int,
    requests: Iterable[bytes],
    *,
    clients: int,
    status: int,
    on_answer: Callable[[bytes], None] | None = None,
) -> Load:
    """Send all requests over ``clients`` connections, each as soon as its last is answered.

    Raises ``LoadFailed`` on an answer of another status. ``on_answer`` gets each body.
    """
    waiting = iter(requests)
    times: list[float] = []
    with selectors.DefaultSelector() as selector:
        connections = [_Connection(port) for _ in range(clients)]
        try:
            start = time.perf_counter()
            for connection in connections:
                if connection.send_next(waiting):
                    selector.register(connection.socket, selectors.EVENT_READ, connection)
            while selector.get_map():
                for key, _ in _ready(selector):
                    connection = key.data
                    answer = connection.receive()
                    if answer is None:
                        continue
                    times.append((time.perf_counter() - connection.sent_at) * 1000)
                    if answer[0] != status:
                        raise LoadFailed(f"status {answer[0]}: {answer[1][:300]!r}")
                    if on_answer is not None:
                        on_answer(answer[1])
                    if not connection.send_next(waiting):
                        selector.unregister(connection.socket)
            return Load(time.perf_counter() - start, times)
        finally:
            for connection in connections:
                connection.socket.close()


def _ready(selector: selectors.BaseSelector) -> list[tuple[selectors.SelectorKey, int]]:
    found = selector.select(PATIENCE)
    if not found:
        raise LoadFailed(f"no answer for {PATIENCE} s")
    return found


class _Connection:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._received = b""

    def send_next(self, requests: Iterator[bytes]) -> bool:
        """Send the next request; return False when there is none."""
        message = next(requests, None)
        if message is None:
            return False
        self._received = b""
        self.sent_at = time.perf_counter()
        self.socket.sendall(message)
        return True

    def receive(self) -> tuple[int, bytes] | None:
        """Read what has come; return status and body once the answer is complete."""
        chunk = self.socket.recv(65536)
        if not chunk:
            raise LoadFailed("the service closed the connection")
        self._received += chunk
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return None
        return int(head[9:12]), body


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    raise LoadFailed(f"an answer without a length: {head[:200]!r}")
