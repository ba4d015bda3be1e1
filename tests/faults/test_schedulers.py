"""Several schedulers at once: whatever they find at the same time is acted on once."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from provisioning.state.enums import JobStatus
from provisioning.state.events import Action
from provisioning.state.models import Event
from tests.faults.callers import Caller, Crowd, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.rows import expire, jobs_of, picture, wait_dropped
from tests.faults.stack import SETTLE, FaultyService, Points, is_stopped
from tests.faults.sweeping import Sweep, sweep_and_remove, sweep_carelessly, sweeping
from tests.faults.test_pause import until_in_time
from tests.support.deadlines import wait_until

pytestmark = pytest.mark.fault(row="F12")

TYPES = ("sandbox", "transformations")
#: How long credentials expire one after the other; `CHAOS_SECONDS=60` is for a minute.
SECONDS = min(float(os.environ.get("CHAOS_SECONDS", "3")), 60)
#: Schedulers beside the service's own beat: further beats, and processes that only sweep.
BEATS, SWEEPERS = (4, 5) if SECONDS >= 30 else (2, 2)
CLIENTS = 6
#: Seconds that the workers may need for all that has expired meanwhile, on a busy machine.
BACKLOG = SETTLE + 2 * SECONDS


@pytest.fixture
def beats(service: FaultyService) -> Iterator[None]:
    """Some more beats, all at work."""
    before = _schedules(service)
    others = [service.start_beat() for _ in range(BEATS)]
    wait_until(
        lambda: len(_schedules(service) - before) == BEATS,
        what="further schedulers",
    )
    yield
    for other in others:
        other.stop()
        service.beats.remove(other)


def _schedules(service: FaultyService) -> set[str]:
    """Return the schedules that beats have written, which each does before its first message."""
    return {path.stem for path in service.directory.glob("beat-schedule-*")}


def _expire_again_and_again(
    service: FaultyService, caller: Caller, type_: str, end: float, numbers: list[int]
) -> None:
    """Let one credential after the other expire; the next create retires it too, if it can."""
    while time.monotonic() < end:
        number = int(caller.create(type_)["id"])
        numbers.append(number)
        expire(service, [number])


def _actions(service: FaultyService, numbers: list[int]) -> Counter[tuple[int | None, str]]:
    """Return how often each was done to each of the credentials."""
    query = select(Event.credentials_id, Event.action).where(Event.credentials_id.in_(numbers))
    with service.installation.database.read() as session:
        return Counter((row.credentials_id, row.action) for row in session.execute(query))


def _dropped_databases(engine: MySQLEngine) -> int:
    """Return how many DROP DATABASE the server has run."""
    with engine.mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Com_drop_db'")
        ((_, count),) = cursor.fetchall()
    return int(count)


@pytest.mark.timeout(SECONDS + BACKLOG + 150)
@pytest.mark.usefixtures("beats")
def test_many_schedulers_act_once_on_each_row(
    service: FaultyService, oracle: Oracle, ledger: Ledger, mysql: MySQLEngine
) -> None:
    numbers: list[int] = []
    crowd, dropped = Crowd(), _dropped_databases(mysql)
    callers = [Caller(service, ledger, front=number) for number in range(CLIENTS)]
    with sweeping(service.installation, service.environment, processes=SWEEPERS) as sweepers:
        end = time.monotonic() + SECONDS
        for turn, caller in enumerate(callers):
            crowd.run(_expire_again_and_again, service, caller, TYPES[turn % 2], end, numbers)
        # What it has sent before is late by the time that it wakes up.
        service.beats[-1].pause()
        crowd.join()
        service.beats[-1].resume()
        wait_dropped(service, numbers, timeout=BACKLOG)
    crowd.assert_no_problems()
    actions, jobs = _actions(service, numbers), jobs_of(service, numbers)
    print(f"\n{len(numbers)} credentials expired, {sweepers.sweeps} sweeps of {SWEEPERS} processes")
    for number in numbers:
        assert actions[number, Action.EXPIRED] == actions[number, Action.DROPPED] == 1
        ledger.leaving(str(number))
        ledger.deleted(str(number))
    assert sorted(job.credentials_id or 0 for job in jobs) == sorted(numbers)
    assert {(job.status, job.attempts) for job in jobs} == {(JobStatus.SUCCESS, 1)}
    assert _dropped_databases(mysql) - dropped == len(numbers)
    oracle.assert_clean()


class LateSweep:
    """A process that is stopped with expired rows in its hands, until they are long gone."""

    def __init__(self, service: FaultyService, ledger: Ledger, points: Points) -> None:
        self._service, self._ledger, self._points = service, ledger, points
        self.callers = [Caller(service, ledger, person=f"late{n}") for n in range(4)]

    def pause(self, pid: int, point: str) -> bool:
        """Stop the process in a sweep that has found something; return whether it landed."""
        numbers = [int(caller.create()["id"]) for caller in self.callers]
        self._points.arm(point, "pause")
        expire(self._service, numbers)
        wait_dropped(self._service, numbers)
        for number in numbers:
            self._ledger.leaving(str(number))
            self._ledger.deleted(str(number))
        return is_stopped(pid)


@pytest.mark.parametrize(
    ("sweep", "point", "wrong"),
    [(sweep_and_remove, "expiry.claimed", False), (sweep_carelessly, "sweep.found", True)],
)
def test_a_sweep_that_goes_on_late_changes_nothing(
    service: FaultyService,
    oracle: Oracle,
    ledger: Ledger,
    tmp_path: Path,
    sweep: Sweep,
    point: str,
    wrong: bool,
) -> None:
    """Its rows were retired and dropped meanwhile, and their owners have new credentials."""
    points = Points(tmp_path / "points")
    environment = {**service.environment, "PROVISIONING_FAILPOINTS": str(points.directory)}
    late = LateSweep(service, ledger, points)
    with sweeping(service.installation, environment, processes=1, sweep=sweep) as sweepers:
        pid = sweepers.processes[0].pid
        try:
            until_in_time(partial(late.pause, pid, point), point)
            for caller in late.callers:
                caller.create()
            assert oracle.settle(), oracle.unfinished()
            before = picture(oracle)
        finally:
            os.kill(pid, signal.SIGCONT)
    # The process has finished its sweep.
    assert (picture(oracle) != before) == wrong
    oracle.assert_clean()
