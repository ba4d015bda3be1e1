"""The page of a sandbox, asked for over the published port as callers do."""

import re
import socket
import ssl
import time
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

#: Seconds until the port takes a connection.
CONNECT_SECONDS = 1.0
#: Bytes of an answer that are read at most.
LIMIT = 1 << 20
#: Pages asked for one after the other at most.
REDIRECTS = 5
END_OF_CERTIFICATE = "-----END CERTIFICATE-----\n"
_REDIRECTED = (301, 302, 303, 307, 308)
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
_LOCATION = re.compile(rb"^location: *(\S+)\r?$", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length: *([0-9]{1,9})\r?$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    """What came back, as far as it came."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        found = _STATUS.match(self.head)
        return int(found[1]) if found else 0

    @property
    def location(self) -> str:
        found = _LOCATION.search(self.head)
        return found[1].decode("latin-1") if found else ""

    @property
    def is_whole(self) -> bool:
        found = _LENGTH.search(self.head)
        return found is not None and len(self.body) >= int(found[1])


class Page:
    """Looks whether the page is there, within a time that no server can draw out.

    It speaks HTTP/1.0, which pages have to serve (contract 8.4.1). With a ``certificate``,
    that one must be served: its name is the public one, which need not be that of the host
    we reach the sandbox at.
    """

    def __init__(self, host: str, port: int, word: str, certificate: bytes | None) -> None:
        self._address = (host, port)
        self._word = word.encode()
        self._root = f"{'http' if certificate is None else 'https'}://{host}:{port}"
        self._context = None if certificate is None else _trusting_only(certificate)

    def flaw(self, seconds: float) -> str | None:
        """Return why the page is not ready; None when it is. No other server is asked."""
        end = time.monotonic() + seconds
        path = "/"
        try:
            for _ in range(REDIRECTS):
                answer = self._get(path, end)
                target = urlsplit(urljoin(f"{self._root}{path}", answer.location))
                here = f"{target.scheme}://{target.netloc}" == self._root
                if answer.status not in _REDIRECTED or not here:
                    break
                path = target._replace(scheme="", netloc="", fragment="").geturl()
        except (OSError, ValueError) as problem:
            return f"no page: {type(problem).__name__}"
        if not 200 <= answer.status < 300:
            return f"the page has status {answer.status}"
        return None if self._word in answer.body else f"the page lacks '{self._word.decode()}'"

    def _get(self, path: str, end: float) -> Answer:
        host, port = self._address
        request = f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: */*\r\n\r\n"
        with ExitStack() as opened:
            stream = opened.enter_context(socket.create_connection(self._address, CONNECT_SECONDS))
            if self._context is not None:
                stream.settimeout(_left(end))
                stream = opened.enter_context(self._context.wrap_socket(stream))
            stream.sendall(request.encode("latin-1"))
            received = b""
            while len(received) < LIMIT:
                stream.settimeout(_left(end))
                part = stream.recv(1 << 16)
                received += part
                head, _, body = received.partition(b"\r\n\r\n")
                answer = Answer(head, body)
                # Not every server hangs up, though it is asked to by the version.
                if not part or answer.is_whole or self._word in body:
                    break
        return answer


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _trusting_only(certificate: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # It need not be signed by itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # That one alone, not what else its authority has signed.
    own, end, _ = certificate.decode().partition(END_OF_CERTIFICATE)
    context.load_verify_locations(cadata=own + end)
    return context
