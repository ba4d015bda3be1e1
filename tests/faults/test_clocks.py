"""Clocks that are wrong by an hour: only the state database's clock decides.

A front is an hour ahead, another one an hour behind. Of two workers one is ahead, and the beat
is behind both, and is set back while it runs.
"""

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select, update

from devstack.processes import Process
from devstack.valkey import Valkey
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.rows import expire, jobs_of, wait_dropped
from tests.faults.stack import CLAIM, SETTLE, FaultyService
from tests.support.deadlines import wait_until
from tests.support.service import TREE, running

pytestmark = pytest.mark.fault(row="F16")

HOUR = 3600
#: Seconds that a request takes at most, as far as the times it records are concerned.
SLACK = HOUR / 10


class WrongClock:
    """The clock of processes that start with `environment`; `shift` changes it at any time."""

    def __init__(self, file: Path, seconds: int) -> None:
        self._file = file
        self.shift(seconds)

    def shift(self, seconds: int) -> None:
        """Let the processes see a time that is so many seconds off, from now on."""
        # Renamed into place, so that nobody reads a file without its text.
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.rename(self._file)

    @property
    def environment(self) -> dict[str, str]:
        shifting = TREE / "tests/faults/wrong_clock"
        return {"WRONG_CLOCK": str(self._file), "PYTHONPATH": f"{shifting}{os.pathsep}{TREE}"}


class MistimedService(FaultyService):
    """A service in which each process has its own clock."""

    def start_with_clock(self, start: Callable[[], Process], seconds: int) -> WrongClock:
        """Start a process whose clock is so many seconds off."""
        clock = WrongClock(self.directory / f"clock-{self._counter}", seconds)
        right = self.environment
        self.environment = {**right, **clock.environment}
        try:
            start()
        finally:
            self.environment = right
        return clock


@pytest.fixture(scope="module")
def mistimed(
    tmp_path_factory: pytest.TempPathFactory, mysql: MySQLEngine, valkey: Valkey
) -> Iterator[MistimedService]:
    service = MistimedService(tmp_path_factory.mktemp("mistimed"), [mysql], valkey=valkey)
    with running(service, fronts=0, workers=0, beats=0):
        for seconds in (HOUR, 0):
            service.start_with_clock(service.start_worker, seconds)
        for seconds in (HOUR, -HOUR):
            service.start_with_clock(service.start_front, seconds)
        yield service


@pytest.fixture(scope="module")
def beat_clock(mistimed: MistimedService) -> WrongClock:
    return mistimed.start_with_clock(mistimed.start_beat, -HOUR)


@pytest.fixture
def callers(mistimed: MistimedService, ledger: Ledger) -> list[Caller]:
    """A caller of each front."""
    return [Caller(mistimed, ledger, front=front) for front in range(2)]


def read_time(service: FaultyService) -> float:
    """Return the state database's time in seconds."""
    with service.installation.database.read() as session:
        return read_clock(session) / 1000


def test_times_are_those_of_the_state_database(
    mistimed: MistimedService, callers: list[Caller]
) -> None:
    lifetime = mistimed.installation.config.lifetime("mysql", "sandbox").seconds
    for caller in callers:
        number = caller.create()["id"]
        read, extended = caller.read(number).body, caller.extend(number).body
        for shown in (read, extended):
            assert abs(shown["touch"] - read_time(mistimed)) < SLACK
            ends = datetime.fromisoformat(shown["expiration"]).timestamp()
            assert ends == shown["touch"] + lifetime


def test_what_expires_goes_and_what_does_not_yet_stays(
    mistimed: MistimedService, beat_clock: WrongClock, callers: list[Caller], ledger: Ledger
) -> None:
    """By one of the clocks, that which stays has expired long ago."""
    staying = [int(caller.create()["id"]) for caller in callers]
    going = [int(caller.create("transformations")["id"]) for caller in callers]
    with mistimed.installation.database.write() as session:
        values = {"expires_at": now_ms() + 1000 * HOUR // 2}
        session.execute(update(Credentials).where(Credentials.id.in_(staying)).values(values))
    expire(mistimed, going)
    for caller, number in zip(callers, going, strict=True):
        assert caller.read(str(number)).status == 404
    wait_dropped(mistimed, going)
    for caller, number in zip(callers, staying, strict=True):
        assert caller.read(str(number)).status == 200
        assert caller.create()["id"] == str(number)
    for number in going:
        ledger.leaving(str(number))
        ledger.deleted(str(number))
    Oracle(mistimed, ledger).assert_clean()


def test_a_scheduler_that_is_set_back_goes_on(
    mistimed: MistimedService, beat_clock: WrongClock, callers: list[Caller], ledger: Ledger
) -> None:
    numbers = [int(caller.create()["id"]) for caller in callers]
    beat_clock.shift(-2 * HOUR)
    # The first one may be found by what was sent before.
    for number in numbers:
        expire(mistimed, [number])
        wait_dropped(mistimed, [number])
        ledger.leaving(str(number))
        ledger.deleted(str(number))


def test_claims_are_neither_stolen_nor_kept(
    mistimed: MistimedService, beat_clock: WrongClock, callers: list[Caller], ledger: Ledger
) -> None:
    """A worker dies in a drop; the other one, an hour away, takes over when its claim ends."""
    number = callers[0].create()["id"]
    mistimed.points["worker"].arm("delete.claimed")
    start = time.monotonic()
    job = callers[0].drop_later(number)
    mistimed.points["worker"].wait_taken("delete.claimed")
    wait_until(lambda: _is_dropped(mistimed, int(number)), timeout=CLAIM + SETTLE, what="a drop")
    assert time.monotonic() - start > CLAIM - 0.1
    assert job is not None
    callers[0].wait_for_job(job)
    ledger.deleted(number)
    assert [one.attempts for one in jobs_of(mistimed, [int(number)])] == [2]
    Oracle(mistimed, ledger).assert_clean()


def _is_dropped(service: FaultyService, number: int) -> bool:
    query = select(Credentials.state).where(Credentials.id == number)
    with service.installation.database.read() as session:
        return session.execute(query).scalar_one() is CredentialsState.DROPPED
