"""A storm of random kills under load: nearly all requests still end well, and nothing is left."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import select

from devstack.postgres import Postgres
from devstack.processes import descendants
from devstack.valkey import Valkey
from provisioning.state.models import Job
from tests.faults.callers import Caller, Crowd, GaveUp, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.record import Record
from tests.faults.stack import FaultyService, supervised
from tests.support.deadlines import TEST_DEADLINE, bar
from tests.support.servers import postgres_state_url
from tests.support.service import running

Result = TypeVar("Result")

#: How long it lasts; `CHAOS_SECONDS=600` is for a weekend.
SECONDS = float(os.environ.get("CHAOS_SECONDS", "30"))
CLIENTS = 16
#: Seconds a client repeats a request before it counts as failed.
PATIENCE = bar(30.0)
#: No job waits longer than this for its first start, in milliseconds.
LONGEST_WAIT = bar(30_000)


class Storm:
    """Sixteen clients, and somebody who kills fronts' children and workers at random."""

    def __init__(self, service: FaultyService, ledger: Ledger) -> None:
        self._service, self._ledger = service, ledger
        self._random = random.Random(os.environ.get("CHAOS_SEED", "1"))
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.kills = {"front": 0, "worker": 0}
        self.good = 0
        self.failed: list[str] = []
        self.slowest = 0.0

    def rage(self, seconds: float) -> None:
        """Let clients and the killer loose, and return when all clients are done."""
        crowd = Crowd()
        for number in range(CLIENTS):
            crowd.run(self._live, number)
        crowd.run(self._kill)
        self._over.wait(seconds)
        self._over.set()
        crowd.join()
        crowd.assert_no_problems()

    def _kill(self) -> None:
        while not self._over.wait(self._random.uniform(0.3, 1.5)):
            kind = self._random.choice(["front", "worker"])
            if kind == "front":
                front = self._random.choice(self._service.fronts)
                victims = descendants(front.pid)
            else:
                worker = self._random.choice(self._service.workers)
                victims = [worker.pid] if worker.running else []
            with suppress(ProcessLookupError):
                for victim in victims[-1:]:
                    os.kill(victim, signal.SIGKILL)
                    self.kills[kind] += 1

    def _live(self, number: int) -> None:
        type_ = ("sandbox", "transformations")[number % 2]
        for turn in count():
            if self._over.is_set():
                return
            caller = Caller(
                self._service,
                self._ledger,
                person=f"s{number}",
                front=turn,
                patience=PATIENCE,
            )
            self._use(caller, type_, keep=turn % 10 == 0)
            with self._lock:
                self.slowest = max(self.slowest, caller.slowest)

    def _use(self, caller: Caller, type_: str, *, keep: bool) -> None:
        try:
            body = self._count(caller.create, type_)
            self._count(caller.read, body["id"])
            self._count(caller.extend, body["id"])
            self._count(caller.kill, body["id"])
            if not keep:
                self._count(caller.drop, body["id"])
        except GaveUp:
            # Counted; the next turn starts anew.
            return

    def _count(self, request: Callable[[str], Result], argument: str) -> Result:
        try:
            answer = request(argument)
        except GaveUp as problem:
            with self._lock:
                self.failed.append(str(problem))
            raise
        with self._lock:
            self.good += 1
        return answer


@pytest.mark.fault(row="F2")
@pytest.mark.timeout(SECONDS + TEST_DEADLINE)
def test_a_storm_of_kills_loses_nothing(
    service_directory: Path,
    mysql: MySQLEngine,
    valkey: Valkey,
    postgres: Postgres,
    ledger: Ledger,
    chaos_row: Record,
) -> None:
    service = FaultyService(
        service_directory,
        [mysql],
        valkey=valkey,
        state_url=postgres_state_url(postgres, "storm"),
    )
    oracle = Oracle(service, ledger)
    storm = Storm(service, ledger)
    with running(service, fronts=3, workers=3), supervised(service) as supervisor:
        storm.rage(SECONDS)
        settling = time.monotonic()
        oracle.assert_clean()
        settled = time.monotonic() - settling
    total, wait = storm.good + len(storm.failed), _longest_wait(service)
    chaos_row.rounds = chaos_row.kills = sum(storm.kills.values())
    chaos_row.note(f"{{:.2f}} % of {total} requests failed", 100 * len(storm.failed) / total)
    chaos_row.note("longest wait of a job {:.1f} s", wait / 1000)
    print(
        f"\n{total} requests in {SECONDS:g} s, {len(storm.failed)} failed; "
        f"kills: {storm.kills}, whole processes started again: {supervisor.restarts}; "
        f"slowest request {storm.slowest:.1f} s, settled in {settled:.1f} s"
    )
    assert min(storm.kills.values()) > 0
    assert storm.good >= 0.99 * total, "\n".join(storm.failed)
    assert wait <= LONGEST_WAIT


def _longest_wait(service: FaultyService) -> int:
    """Return the longest time a job waited for its first start, in milliseconds."""
    query = select(Job.created_at, Job.started_at)
    with service.installation.database.read() as session:
        times = session.execute(query).all()
    waits = [started - created for created, started in times if started is not None]
    assert len(waits) == len(times), "a job never started"
    return max(waits)
