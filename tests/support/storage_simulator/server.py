"""A server of replies over real HTTP."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote

from tests.support.storage_simulator.replies import Repeated, Reply

#: Turns the reply that would be sent into the one that is.
Change = Callable[[Reply], Reply]


@dataclass(frozen=True)
class Request:
    """What a client sent. ``path`` is decoded, ``target`` is as it came."""

    method: str
    path: str
    target: str
    query: list[tuple[str, str]]
    form: list[tuple[str, str]]
    headers: Message

    def one(self, name: str) -> str:
        """Return the value of a field, '' when it was not sent."""
        return dict(self.query + self.form).get(name, "")

    def every(self, name: str) -> list[str]:
        return [value for key, value in self.query + self.form if key == name]


class SimulatedServer(ABC):
    """Answers in threads; a test may change some replies and look at what was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._changes: list[tuple[str, Change]] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_class(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def disturb(self, fragment: str, *changes: Change) -> None:
        """Change the replies to the next requests whose path contains ``fragment``, one each."""
        with self._lock:
            self._changes += [(fragment, change) for change in changes]

    def asked(self, fragment: str) -> list[Request]:
        """Return the requests so far whose path contains ``fragment``."""
        with self._lock:
            return [request for request in self.requests if fragment in request.path]

    @abstractmethod
    def respond(self, request: Request) -> Reply:
        """Return the reply to a request."""

    def _reply(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            change = self._take_change(request.path)
        reply = self.respond(request)
        return change(reply) if change else reply

    def _take_change(self, path: str) -> Change | None:
        for number, (fragment, change) in enumerate(self._changes):
            if fragment in path:
                del self._changes[number]
                return change
        return None


def _handler_class(server: SimulatedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle(self) -> None:
            # A client may be gone between two requests.
            with suppress(ConnectionError):
                super().handle()

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            target, _, query = self.path.partition("?")
            request = Request(
                self.command,
                unquote(target),
                target,
                parse_qsl(query, keep_blank_values=True),
                parse_qsl(body.decode(), keep_blank_values=True),
                self.headers,
            )
            try:
                self._send(server._reply(request))
            except OSError:
                # The service gave up waiting, as some tests want it to.
                self.close_connection = True

        def _send(self, reply: Reply) -> None:
            server._closing.wait(reply.delay)
            if reply.hang_up:
                self.close_connection = True
                return
            content = reply.content()
            self.send_response(reply.status)
            headers = {"Content-Type": "application/json", **reply.headers}
            if reply.chunked:
                headers["Transfer-Encoding"] = "chunked"
            else:
                headers["Content-Length"] = str(len(content))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            for block in _pieces(content, reply):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block) if reply.chunked else block)
                if reply.drip and server._closing.wait(reply.drip):
                    return
            if reply.cut is not None:
                self.close_connection = True
            elif reply.chunked:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *arguments: Any) -> None:
            """Write nothing: what matters is counted."""

    return Handler


def _pieces(content: bytes | Repeated, reply: Reply) -> Iterable[bytes]:
    """Return the blocks of a body in which it is sent."""
    if isinstance(content, Repeated):
        return content.blocks()
    shown = content[: reply.cut]
    if reply.drip:
        return (bytes([byte]) for byte in shown)
    half = len(shown) // 2
    return filter(None, (shown[:half], shown[half:])) if reply.chunked else filter(None, (shown,))
