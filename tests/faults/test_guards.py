"""The tests would notice: with a protection taken out, the oracle counts what it prevents."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devstack.procfile import procfile_commands
from devstack.valkey import Valkey
from tests.faults.callers import LOST, Caller, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.stack import SHORT_CLAIM, FaultyService, wait_stopped
from tests.support import service as support
from tests.support.deadlines import DEADLINE
from tests.support.service import running

NORMAL = "api.app:create_app"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let fronts that start from now on serve another application."""
    original = procfile_commands()

    def choose(application: str) -> None:
        changed = {
            name: command.replace("api.app:create_app", application)
            for name, command in original.items()
        }
        monkeypatch.setattr(support, "procfile_commands", lambda: changed)

    return choose


@pytest.fixture
def guarded(service_directory: Path, mysql: MySQLEngine, valkey: Valkey) -> Iterator[FaultyService]:
    """A service without processes; the tests start the fronts they want."""
    environment = {"CLAIM_SECONDS": str(SHORT_CLAIM)}
    service = FaultyService(service_directory, [mysql], valkey=valkey, environment=environment)
    with running(service, fronts=0, workers=0, beats=0):
        yield service


def start_fronts(
    service: FaultyService, commands: Callable[[str], None], *applications: str
) -> None:
    for application in applications:
        commands(application)
        service.start_front()


@pytest.mark.parametrize(
    ("application", "wrong"), [(NORMAL, False), ("tests.faults.unprotected:without_fencing", True)]
)
def test_fencing_keeps_a_late_process_from_making_what_was_dropped(
    guarded: FaultyService,
    commands: Callable[[str], None],
    mysql: MySQLEngine,
    ledger: Ledger,
    application: str,
    wrong: bool,
) -> None:
    start_fronts(guarded, commands, application, NORMAL)
    guarded.start_worker()
    guarded.start_beat()
    caller = Caller(guarded, ledger, front=1)
    child = guarded.front_child(0)
    guarded.points["web"].arm("create.intent", "pause")
    with ThreadPoolExecutor() as executor:
        late = executor.submit(_create, guarded, caller.token)
        wait_stopped(child, "create.intent")
        caller.drop(caller.create("transformations")["id"])
        os.kill(child, signal.SIGCONT)
        late.result(timeout=DEADLINE)
    oracle = Oracle(guarded, Ledger())
    oracle.settle()
    findings = oracle.look()
    # What the late front makes anew, under a row of its own, is in order.
    assert any(findings.counts().values()) == wrong, findings.table()


def _create(service: FaultyService, token: str) -> None:
    try:
        service.impatient_client(token).post("/provisioning/mysql", {"type": "transformations"})
    except LOST:
        return


@pytest.mark.parametrize(
    ("application", "orphans"), [(NORMAL, 0), ("tests.faults.unprotected:without_intent", 1)]
)
def test_intent_keeps_a_killed_process_from_leaving_a_database(
    guarded: FaultyService,
    commands: Callable[[str], None],
    mysql: MySQLEngine,
    application: str,
    orphans: int,
) -> None:
    start_fronts(guarded, commands, application)
    guarded.start_worker()
    guarded.start_beat()
    guarded.points["web"].arm("create.database")
    _create(guarded, guarded.token())
    guarded.points["web"].wait_taken("create.database")
    oracle = Oracle(guarded)
    oracle.settle()
    assert oracle.look().counts() == {
        "orphans": orphans,
        "ghosts": 0,
        "zombies": 0,
        "open": 0,
        "double": 0,
        "lost": 0,
    }


@pytest.mark.parametrize(
    ("application", "double"), [(NORMAL, 0), ("tests.faults.unprotected:without_slots", 1)]
)
def test_the_slot_keeps_equal_creates_from_making_two(
    guarded: FaultyService,
    commands: Callable[[str], None],
    mysql: MySQLEngine,
    application: str,
    double: int,
) -> None:
    start_fronts(guarded, commands, application)
    token, together = guarded.token(), threading.Barrier(8)

    def create(_: int) -> None:
        together.wait()
        _create(guarded, token)

    with ThreadPoolExecutor(max_workers=8) as executor:
        list(executor.map(create, range(8)))
    oracle = Oracle(guarded)
    oracle.settle()
    assert oracle.look().counts()["double"] == double
