"""Rounds of a fault: arm one failpoint after the other while traffic goes on."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Event

import pymysql

from tests.faults.callers import Caller, Crowd, Ledger
from tests.faults.stack import FaultyService, Points
from tests.support.servers import connect_as

#: How often each point is used. More rounds find rarer orders of events.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "2"))

CREATE = (
    "create.recording",
    "create.intent",
    "create.locked",
    "create.database",
    "create.login",
    "create.grant",
    "create.verified",
    "create.active",
)
DROP = {
    "sandbox": (
        "drop.locked",
        "drop.revoked",
        "drop.sessions",
        "drop.database",
        "drop.login_locked",
        "drop.login",
        "drop.checked",
    ),
    "transformations": (
        "drop.locked",
        "drop.login_locked",
        "drop.login",
        "drop.database",
        "drop.checked",
    ),
}
KILL = ("kill.claiming", "kill.claimed", "kill.sessions", "kill.settled")

#: Seconds a client repeats a request. A job may be hit at each of the points in turn, and
#: every time its claim has to run out first.
PATIENCE = 60.0


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
            points.wait_taken(name, timeout=30)
            self.counts[kind, name] += 1

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

    def __init__(self, service: FaultyService, ledger: Ledger, type_: str) -> None:
        self._service, self._ledger, self._type = service, ledger, type_
        self._stopped = Event()
        self._crowd = Crowd()
        #: Sessions that were open when their credential was dropped; never closed by us.
        self._sessions: list[pymysql.Connection[pymysql.cursors.Cursor]] = []
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
            self._crowd.join(timeout=120)
        self._crowd.assert_no_problems()

    def _live(self, number: int) -> None:
        for turn in count(number):
            if self._stopped.wait(0.05):
                return
            self._use_two_of_one_person(keep=turn % 5 == 0)

    def _use_two_of_one_person(self, *, keep: bool) -> None:
        person = str(next(self._people))
        first, second = (
            Caller(self._service, self._ledger, person=person, front=n, patience=PATIENCE)
            for n in range(2)
        )
        one, other = first.create(self._type), second.create(self._type)
        assert first.extend(one["id"]).status == 200
        self._sessions.append(connect_as(one["credentials"]))
        first.kill(one["id"])
        self._sessions.append(connect_as(one["credentials"]))
        first.drop(one["id"])
        # The person's other credential still works, whatever died during the drop.
        connect_as(other["credentials"]).close()
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
            connect_as(body["credentials"]).close()

    def close_sessions(self) -> None:
        for session in self._sessions:
            session.close()
