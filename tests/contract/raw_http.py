"""Requests that no HTTP library would send as they are."""

import socket
from dataclasses import dataclass

from tests.support.deadlines import DEADLINE


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came over the wire; header names are lower case."""

    protocol: str
    status: int
    headers: dict[str, str]
    body: bytes


def exchange(port: int, request: bytes) -> RawAnswer:
    """Send the bytes and return what came until the server closed the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    protocol, status = lines[0].split(" ")[:2]
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return RawAnswer(protocol, int(status), headers, body)


def send_and_hang_up(port: int, request: bytes) -> None:
    """Send the bytes and close the connection without waiting for an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(request)
