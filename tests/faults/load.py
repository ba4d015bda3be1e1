"""Requests without repeats, each recorded with its time: what outages look like to callers."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults.callers import LOST, Crowd, Ledger
from tests.faults.engines.base import Engine
from tests.faults.stack import FaultyService
from tests.support.client import Answer, Client
from tests.support.deadlines import wait_until


@dataclass(frozen=True)
class Sample:
    """One request; ``status`` is 0 when the connection was lost."""

    client: int
    start: float
    end: float
    what: str
    status: int
    retry_after: str | None
    text: str

    @property
    def seconds(self) -> float:
        return self.end - self.start

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    def __str__(self) -> str:
        return f"{self.what} {self.status} after {self.seconds:.2f} s {self.text}"


class Load:
    """Clients that create, read and drop on one engine and write down what they get."""

    def __init__(
        self, service: FaultyService, ledger: Ledger, engine: Engine, *, pause: float = 0.02
    ) -> None:
        self._service, self._ledger, self._pause = service, ledger, pause
        self._types, self._path = engine.types, f"/provisioning/{engine.backend}"
        self._stopped = threading.Event()
        self._crowd = Crowd()
        self._lock = threading.Lock()
        self._clients = 0
        self.samples: list[Sample] = []

    @contextmanager
    def flowing(self, clients: int) -> Iterator[None]:
        """Keep clients busy for a block."""
        # Tokens are made before, because that takes the state database.
        self._clients = clients
        for number in range(clients):
            token = self._service.token(person=f"load{number}")
            self._crowd.run(self._live, token, number)
        try:
            yield
        finally:
            self._stopped.set()
            self._crowd.join()
        self._crowd.assert_no_problems()

    def wait_served(self, moment: float, seconds: float) -> None:
        """Wait until every client has got a good answer to a request after the moment."""
        wait_until(
            lambda: len({sample.client for sample in self.good_after(moment)}) == self._clients,
            timeout=seconds,
            what="good answers to all clients",
        )

    def wait_good(self, moment: float, count: int) -> None:
        """Let the clients go on until so many good answers to later requests have come."""
        wait_until(lambda: len(self.good_after(moment)) >= count, what="good answers")

    def run_for(self, seconds: float) -> None:
        """Let the clients go on for a while."""
        self._stopped.wait(seconds)

    def _live(self, token: str, number: int) -> None:
        front = number % len(self._service.fronts)
        client = self._service.impatient_client(token, front=front)
        type_ = self._types[number % len(self._types)]
        while not self._stopped.wait(self._pause):
            self._cycle(client, token, type_, number)

    def _cycle(self, client: Client, token: str, type_: str, number: int) -> None:
        created = self._send(number, "create", lambda: client.post(self._path, {"type": type_}))
        if created is None:
            return
        self._ledger.created(token, created)
        path = f"{self._path}/{created['id']}"
        self._send(number, "read", lambda: client.get(path))
        self._ledger.leaving(created["id"])
        dropped = self._send(
            number, "drop", lambda: client.delete(path, headers={"Prefer": "wait=5"})
        )
        # A 202 is a promise for later, which the oracle looks at through the job.
        if dropped == {"status": "ok"}:
            self._ledger.deleted(created["id"])

    def _send(self, number: int, what: str, request: Callable[[], Answer]) -> dict[str, Any] | None:
        """Send a request, record it, and return the body of a good answer."""
        start = time.monotonic()
        try:
            answer = request()
        except LOST as problem:
            self._record(Sample(number, start, time.monotonic(), what, 0, None, repr(problem)))
            return None
        sample = Sample(
            number,
            start,
            time.monotonic(),
            what,
            answer.status,
            answer.headers.get("Retry-After"),
            "" if answer.status < 300 else answer.text,
        )
        self._record(sample)
        return dict(answer.body) if sample.good else None

    def _record(self, sample: Sample) -> None:
        self._ledger.waited(sample.seconds)
        with self._lock:
            self.samples.append(sample)

    # Judging ------------------------------------------------------------------------

    def bad_outside(self, *outages: tuple[float, float]) -> list[str]:
        """Return failures that were answered in none of the outages, each a start and an end.

        A read or a drop of what was never made in the outage is no failure.
        """
        return [
            str(sample)
            for sample in self.samples
            if not sample.good and not any(start <= sample.end <= end for start, end in outages)
        ]

    def not_plain_outages(self) -> list[str]:
        """Return failures that are something else than a 503 with Retry-After."""
        return [
            str(sample)
            for sample in self.samples
            if not sample.good and not (sample.status == 503 and sample.retry_after)
        ]

    def good_after(self, moment: float) -> list[Sample]:
        with self._lock:
            return [sample for sample in self.samples if sample.good and sample.start >= moment]
