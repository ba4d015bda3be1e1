"""A caller of the service over real HTTP."""

import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from typing import Any

from tests.support.deadlines import LONG_DEADLINE
from tests.support.hunt import HUNT


@dataclass(frozen=True)
class Answer:
    """One answer; ``body`` is the parsed JSON, or None when the body is empty."""

    status: int
    headers: HTTPMessage
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text) if self.text else None


class Client:
    """Sends requests to one front, each over a connection of its own."""

    def __init__(
        self, port: int, token: str | None = None, *, timeout: float = LONG_DEADLINE
    ) -> None:
        self.port = port
        self.token = token
        self._timeout = timeout

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request. ``body`` is sent as it is if bytes or str, else as JSON."""
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("X-StorageApi-Token", self.token)
        if body is not None and not isinstance(body, bytes | str):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=self._timeout)
        try:
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            text = answer.read().decode()
            HUNT.add_answer(text)
            return Answer(answer.status, answer.headers, text)
        finally:
            connection.close()

    def get(self, path: str, **options: Any) -> Answer:
        return self("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return self("POST", path, body, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        return self("DELETE", path, **options)

    def create(self, type_: str = "sandbox") -> dict[str, Any]:
        """Create a MySQL credential and return the answer's body."""
        answer = self.post("/provisioning/mysql", {"type": type_})
        assert answer.status == 201, answer
        body: dict[str, Any] = answer.body
        return body
