"""A simulator of the Storage API's token and ticket calls, over real HTTP.

It is no Storage API: it answers what a test told it to answer, token by token, and remembers
what it was asked.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

VERIFY = "/v2/storage/tokens/verify"
TICKETS = "/v2/storage/tickets"


@dataclass(frozen=True)
class Reply:
    """One answer. ``raw`` replaces the JSON of ``body``; ``delay`` comes before all of it."""

    status: int = 200
    body: Any = None
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    #: Seconds of silence before the answer.
    delay: float = 0
    #: Seconds between two bytes of the body; 0 sends it at once.
    drip: float = 0
    #: Close the connection in place of an answer.
    hang_up: bool = False

    def content(self) -> bytes:
        return json.dumps(self.body).encode() if self.raw is None else self.raw


@dataclass(frozen=True)
class Ticket:
    """A number that was given out, and what it was asked with."""

    number: int
    token: str
    run_id: str | None


def token_details(
    token_id: str | int = "30680", project_id: str | int = 572, **changes: Any
) -> dict[str, Any]:
    """Return the answer for a good token of a person, as the Storage API words it."""
    owner = {
        "id": project_id,
        "name": f"Project {project_id}",
        "features": [],
        "hasMysql": True,
        "hasRedshift": True,
        "hasSnowflake": True,
        "isDisabled": False,
        "limits": {"components.jobsParallelism": {"name": "x", "value": 10}},
        **changes.pop("owner", {}),
    }
    return {
        "id": token_id,
        "token": "never read",
        "description": f"token {token_id}",
        "isDisabled": False,
        "isExpired": False,
        "expires": None,
        "admin": {"id": 4, "name": "Somebody"},
        "owner": owner,
        **changes,
    }


class StorageSimulator:
    """Answers ``GET tokens/verify`` and ``POST tickets``; an unknown token is refused."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []
        self._replies: dict[str, Reply] = {}
        self._ticket_reply: Reply | None = None
        self._asked: list[str] = []
        self._number = 206_000_000
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler_class())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

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

    def answer(self, token: str, reply: Reply) -> None:
        """Answer the verifications of a token with ``reply`` from now on."""
        with self._lock:
            self._replies[token] = reply

    def accept(self, token: str, token_id: str | int, project_id: str | int, **changes: Any) -> str:
        """Make a token good and return it."""
        self.answer(token, Reply(body=token_details(token_id, project_id, **changes)))
        return token

    def answer_tickets(self, reply: Reply | None) -> None:
        """Answer ticket calls with ``reply`` in place of a number, or again with numbers."""
        with self._lock:
            self._ticket_reply = reply

    def verifications(self, token: str) -> int:
        """Return how often a token was verified."""
        with self._lock:
            return self._asked.count(token)

    def _verify(self, token: str) -> Reply:
        with self._lock:
            self._asked.append(token)
            return self._replies.get(token, Reply(401, {"error": "Invalid access token"}))

    def _give_ticket(self, token: str, run_id: str | None) -> Reply:
        with self._lock:
            if self._ticket_reply is not None:
                return self._ticket_reply
            self._number += 1
            self.tickets.append(Ticket(self._number, token, run_id))
            return Reply(201, {"id": str(self._number)})

    def _handler_class(self) -> type[BaseHTTPRequestHandler]:
        simulator = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                token = self.headers.get("X-StorageApi-Token", "")
                known = self.path == VERIFY
                self._send(simulator._verify(token) if known else Reply(404, {"error": "route"}))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                token = self.headers.get("X-StorageApi-Token", "")
                if self.path != TICKETS:
                    self._send(Reply(404, {"error": "route"}))
                    return
                self._send(simulator._give_ticket(token, self.headers.get("X-KBC-RunId")))

            def _send(self, reply: Reply) -> None:
                simulator._closing.wait(reply.delay)
                if reply.hang_up:
                    self.close_connection = True
                    return
                content = reply.content()
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self._write(content, reply.drip)
                except OSError:
                    # The service gave up waiting, as some tests want it to.
                    self.close_connection = True

            def _write(self, content: bytes, drip: float) -> None:
                if not drip:
                    self.wfile.write(content)
                    return
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if simulator._closing.wait(drip):
                        return

            def log_message(self, format: str, *arguments: Any) -> None:
                """Write nothing: what matters is counted."""

        return Handler


@contextmanager
def simulated_storage() -> Iterator[StorageSimulator]:
    """Run a simulator for a block."""
    simulator = StorageSimulator()
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.stop()
