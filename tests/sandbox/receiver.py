"""A server that the service tells of something."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: What its messages are signed with.
SECRET = "callback-secret"


@dataclass(frozen=True)
class Heard:
    """One request that reached the receiver."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """A caller's server. It answers with ``status``, and sends redirects to itself."""

    def __init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.heard.append(Heard(self.path, headers, body))
                self.send_response(receiver.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                receiver.heard.append(Heard(self.path, {}, b""))

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.heard: list[Heard] = []
        self.status = 204
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
