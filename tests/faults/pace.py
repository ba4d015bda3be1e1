"""Requests at a fixed pace, each timed from when it was due.

A client that waits for its last answer before it asks again hides a standstill: it sends
nothing meanwhile. Here the requests of a standstill are all late, and count as that.
"""

import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Self

from tests.faults.callers import Caller, Ledger
from tests.faults.engines.base import Engine
from tests.faults.stack import FaultyService
from tests.support.client import Answer


@dataclass
class Timings:
    """What the requests to one engine took."""

    seconds: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def p99(self) -> float:
        return sorted(self.seconds)[math.ceil(0.99 * len(self.seconds)) - 1]


class Paced:
    """A client that creates, reads and drops on one engine, one request per ``interval``."""

    def __init__(
        self, service: FaultyService, ledger: Ledger, engine: Engine, interval: float
    ) -> None:
        self.backend = engine.backend
        self._caller = Caller(service, ledger, backend=engine.backend)
        self._client = service.impatient_client(self._caller.token)
        self._type = engine.types[-1]
        self._interval = interval
        self._id = ""

    def run(self, seconds: float, timings: Timings) -> None:
        """Keep the pace for a while; end with a drop."""
        steps = (self._create, self._read, self._drop)
        # Not all clients at the same moment.
        start, never = time.monotonic() + random.uniform(0, self._interval), Event()
        for number in range(3 * math.ceil(seconds / self._interval / 3)):
            due = start + number * self._interval
            never.wait(max(due - time.monotonic(), 0))
            answer = steps[number % 3]()
            timings.seconds.append(time.monotonic() - due)
            if answer.status not in (200, 201):
                timings.bad.append(f"{steps[number % 3].__name__}: {answer.status} {answer.text}")
                return

    def _create(self) -> Answer:
        answer = self._client.post(self._caller.path, {"type": self._type})
        if answer.status == 201:
            self._id = answer.body["id"]
            self._caller.ledger.created(self._caller.token, answer.body)
        return answer

    def _read(self) -> Answer:
        return self._client.get(f"{self._caller.path}/{self._id}")

    def _drop(self) -> Answer:
        self._caller.ledger.leaving(self._id)
        answer = self._client.delete(f"{self._caller.path}/{self._id}")
        if answer.status == 200:
            self._caller.ledger.deleted(self._id)
        return answer


def keep_pace(clients: Sequence[Paced], seconds: float) -> dict[str, Timings]:
    """Let all clients run for a while, and return the timings by backend."""
    timings = {client.backend: Timings() for client in clients}
    with ThreadPoolExecutor(max_workers=len(clients)) as executor:
        running = [executor.submit(one.run, seconds, timings[one.backend]) for one in clients]
        for one in running:
            one.result()
    return timings


class Hammer:
    """Callers that read their credential again and again, whatever they are told."""

    def __init__(self, service: FaultyService, owners: Sequence[Caller], *, pause: float) -> None:
        self._service, self._owners, self._pause = service, owners, pause
        self._stopped = Event()
        self._executor = ThreadPoolExecutor(max_workers=len(owners))
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0

    def __enter__(self) -> Self:
        for number, owner in enumerate(self._owners):
            offset = self._pause * number / len(self._owners)
            self._executor.submit(self._live, owner, offset)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._executor.shutdown()

    def __str__(self) -> str:
        return f"answers {dict(self.statuses)}, the slowest after {self.slowest:.1f} s"

    def _live(self, owner: Caller, offset: float) -> None:
        client = self._service.impatient_client(owner.token)
        self._stopped.wait(offset)
        while not self._stopped.wait(self._pause):
            start = time.monotonic()
            status = client.get(f"{owner.path}?type=sandbox").status
            self.statuses[status] += 1
            self.slowest = max(self.slowest, time.monotonic() - start)
