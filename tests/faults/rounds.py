"""Rounds of kills: arm one fail-point after the other while traffic goes on.

A kill also hits whatever else the process was doing. A file that was taken is a kill that
landed.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from threading import Event
from typing import Any

from sqlalchemy import func, select

from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials
from tests.faults.callers import LOST, Caller, Crowd, Ledger
from tests.faults.engines.base import Engine
from tests.faults.oracle import Oracle
from tests.faults.record import Record
from tests.faults.stack import FaultyService, Points, supervised
from tests.support.client import Client
from tests.support.deadlines import DEADLINE, LONG_DEADLINE

#: How often each point is used. More rounds find rarer orders of events.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "1"))

#: Points of a request for a drop, a kill and an extend, in a front.
REQUESTS = (
    "delete.recording",
    "delete.accepted",
    "kill.accepted",
    "extend.prolonged",
    "extend.committed",
)
#: Points of a job, before the backend's own and after them.
DELETE = ("delete.claiming", "delete.claimed")
KILL = ("kill.claiming", "kill.claimed", "kill.sessions", "kill.settled")


def creation_points(engine: Engine) -> tuple[str, ...]:
    """Return the points of a creation, in their order."""
    return ("create.recording", "create.intent", *engine.create, "create.active")


def removal_points(engine: Engine, type_: str) -> tuple[str, ...]:
    """Return the points of a delete job, in their order."""
    return (*DELETE, *engine.drop[type_], "delete.settled")


#: Creations without a process in charge that the rounds with workers keep in stock.
STOCK = 16


class Landed:
    """How many kills landed at each point, by kind of process."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def run(self, kind: str, points: Points, names: Iterable[str]) -> None:
        """Kill the process that reaches each of the points next, one after the other.

        The armed file is taken by the process that dies of it, so each turn is one kill.
        """
        for name in names:
            points.arm(name)
            points.wait_taken(name, timeout=LONG_DEADLINE)
            self.counts[kind, name] += 1

    def record(self, record: Record) -> None:
        """Add the kills; each was a round."""
        record.kills += self.counts.total()
        record.rounds = record.kills

    def total(self, kind: str, prefix: str) -> int:
        return sum(
            number
            for (one, name), number in self.counts.items()
            if one == kind and name.startswith(prefix)
        )

    def table(self) -> str:
        lines = ["process | point             | kills landed"]
        lines += [f"{kind:7} | {name:17} | {n}" for (kind, name), n in sorted(self.counts.items())]
        return "\n".join(lines)


class Traffic:
    """Clients that create, use and drop credentials of one type until told to stop."""

    _people = count(1)

    def __init__(self, service: FaultyService, ledger: Ledger, engine: Engine, type_: str) -> None:
        self._service, self._ledger = service, ledger
        self._engine, self._type = engine, type_
        self._stopped = Event()
        self._crowd = Crowd()
        #: Sessions that were open when their credential was dropped; never closed by us.
        self._sessions: list[Any] = []
        self.kept: list[tuple[Caller, str]] = []

    @contextmanager
    def flowing(self, clients: int) -> Iterator[None]:
        """Keep clients busy for a block, then let each finish what it does."""
        for number in range(clients):
            self._crowd.run(self._live, number)
        try:
            yield
        finally:
            self._stopped.set()
            self._crowd.join()
            # Even if the block has failed: it may have waited for clients that gave up.
            self._crowd.assert_no_problems()

    def _live(self, number: int) -> None:
        for turn in count(number):
            if self._stopped.wait(0.3):
                return
            self._use_two_of_one_person(keep=turn % 5 == 0)

    def _use_two_of_one_person(self, *, keep: bool) -> None:
        person = str(next(self._people))
        first, second = (
            Caller(
                self._service,
                self._ledger,
                backend=self._engine.backend,
                person=person,
                front=n,
            )
            for n in range(2)
        )
        one, other = first.create(self._type), second.create(self._type)
        assert first.extend(one["id"]).status == 200
        self._sessions.append(self._engine.connect(one["credentials"]))
        first.kill(one["id"])
        self._sessions.append(self._engine.connect(one["credentials"]))
        first.drop(one["id"])
        # The person's other credential still works, whatever died during the drop.
        self._engine.try_login(other["credentials"])
        if keep:
            self.kept.append((second, other["id"]))
        else:
            second.drop(other["id"])

    def assert_kept(self) -> None:
        """Repeat the creates of all that was kept: the same credentials come back, and work."""
        assert self.kept
        for caller, credentials_id in self.kept:
            body = caller.create(self._type)
            assert body["id"] == credentials_id
            self._engine.try_login(body["credentials"])

    def close_sessions(self) -> None:
        for session in self._sessions:
            with suppress(self._engine.error):
                session.close()


# Rounds ---------------------------------------------------------------------------------


def kill_in_traffic(
    service: FaultyService,
    ledger: Ledger,
    engine: Engine,
    type_: str,
    *,
    web: tuple[str, ...],
    worker: tuple[str, ...],
) -> None:
    """Kill fronts and workers at the points while clients use credentials; nothing is left."""
    landed, traffic, rounds = Landed(), Traffic(service, ledger, engine, type_), Crowd()
    with supervised(service), traffic.flowing(clients=8):
        rounds.run(landed.run, "web", service.points["web"], web)
        rounds.run(landed.run, "worker", service.points["worker"], worker)
        rounds.join()
    rounds.assert_no_problems()
    print(f"\n{engine.backend} {type_}\n{landed.table()}")
    landed.record(ledger.record)
    Oracle(service, ledger).assert_clean()
    traffic.assert_kept()
    traffic.close_sessions()
    assert landed.total("web", "") == len(web)
    assert landed.total("worker", "") == len(worker)


def kill_who_cleans_up(
    service: FaultyService,
    ledger: Ledger,
    engine: Engine,
    *,
    web: tuple[str, ...],
    worker: tuple[str, ...],
) -> None:
    """Kill workers that finish what fronts abandon, and fronts that undo what has failed."""
    landed, rounds, feeder, fed = Landed(), Crowd(), Crowd(), Event()
    with supervised(service):
        feeder.run(_abandon_creations, service, engine, fed)
        rounds.run(landed.run, "worker", service.points["worker"], worker)
        rounds.run(landed.run, "web", service.points["web"], web)
        try:
            rounds.join()
        finally:
            fed.set()
            feeder.join()
    rounds.assert_no_problems()
    feeder.assert_no_problems()
    service.points["web"].disarm()
    print(f"\n{engine.backend}\n{landed.table()}")
    landed.record(ledger.record)
    Oracle(service, ledger).assert_clean()
    assert landed.total("worker", "create.") == len(worker) > 0
    assert landed.total("web", "") == len(web) > 0


def _abandon_creations(service: FaultyService, engine: Engine, fed: Event) -> None:
    """Send creates that fail after the intent (the row is left) or before the end (undone)."""
    number = 0
    while not fed.wait(0.05):
        if _unfinished_creations(service) >= STOCK:
            continue
        number += 1
        type_ = engine.types[number % len(engine.types)]
        service.points["web"].arm("create.intent", "error")
        service.points["web"].arm("create.verified", "error")
        for _ in range(2):
            front = number % len(service.fronts)
            client = Client(service.port(front), service.token(), timeout=DEADLINE)
            # The front dies in the undoing, which is what the round is about.
            with suppress(*LOST):
                client.post(f"/provisioning/{engine.backend}", {"type": type_})


def _unfinished_creations(service: FaultyService) -> int:
    query = select(func.count()).where(Credentials.state == CredentialsState.CREATING)
    with service.installation.database.read() as session:
        return session.execute(query).scalar_one()
