"""kill -9 of fronts and workers at every step of create, drop, kill and extend, on MySQL."""

import time
from collections.abc import Iterator

import pytest

from devstack.valkey import Valkey
from provisioning.state.enums import JobStatus
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.base import Engine
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.record import Record
from tests.faults.rounds import (
    KILL,
    REQUESTS,
    ROUNDS,
    creation_points,
    kill_in_traffic,
    kill_who_cleans_up,
    removal_points,
)
from tests.faults.stack import SHORT_CLAIM, SWEEP, FaultyService
from tests.support.deadlines import bar, wait_until
from tests.support.service import running

pytestmark = pytest.mark.fault(row="F1")

#: Seconds in which a dead worker's job is done by another: its claim runs out, a sweep finds it,
#: and somebody does it.
TAKEN_OVER = bar(SHORT_CLAIM + SWEEP + 10)


@pytest.fixture(scope="module")
def doomed(
    tmp_path_factory: pytest.TempPathFactory, mysql: Engine, valkey: Valkey
) -> Iterator[FaultyService]:
    """Three fronts and three workers that are killed all the time."""
    service = FaultyService(
        tmp_path_factory.mktemp("doomed"),
        [mysql],
        valkey=valkey,
        environment={"CLAIM_SECONDS": str(SHORT_CLAIM)},
    )
    with running(service, fronts=3, workers=3):
        yield service


@pytest.mark.parametrize("type_", MySQLEngine.types)
def test_kills_at_every_step_leave_nothing(
    doomed: FaultyService, mysql: Engine, ledger: Ledger, type_: str
) -> None:
    kill_in_traffic(
        doomed,
        ledger,
        mysql,
        type_,
        web=(*creation_points(mysql) * ROUNDS, *REQUESTS),
        worker=(*removal_points(mysql, type_) * ROUNDS, *KILL),
    )


def test_kills_of_those_who_clean_up_leave_nothing(
    doomed: FaultyService, mysql: Engine, ledger: Ledger
) -> None:
    """Creations that a front abandons are finished by workers, which die at every step too;
    creations that fail are undone by fronts, which die at every step of that."""
    undo = [point for type_ in mysql.types for point in mysql.drop[type_]]
    kill_who_cleans_up(
        doomed,
        ledger,
        mysql,
        web=(*undo, "create.failed") * ROUNDS,
        worker=(*mysql.create, "create.active") * ROUNDS,
    )


def test_a_standby_worker_takes_over_from_a_dead_one(
    doomed: FaultyService, ledger: Ledger, chaos_row: Record
) -> None:
    """Its record tells who did it in the end, and that it was not the first."""
    revive(doomed)
    caller = Caller(doomed, ledger)
    body = caller.create()
    doomed.points["worker"].arm("drop.database")
    job = caller.drop_later(body["id"])
    assert job is not None
    doomed.points["worker"].wait_taken("drop.database")
    died = time.monotonic()
    record = caller.wait_for_job(job)
    seconds = time.monotonic() - died
    assert record["status"] == JobStatus.SUCCESS and record["attempts"] == 2
    living = [worker.pid for worker in doomed.workers if worker.running]
    assert len(living) == len(doomed.workers) - 1
    assert record["process"]["pid"] in living
    assert seconds <= TAKEN_OVER
    chaos_row.kills = 1
    chaos_row.note("taken over in {:.1f} s", seconds)
    ledger.deleted(body["id"])
    revive(doomed)
    Oracle(doomed, ledger).assert_clean()


def test_when_all_workers_die_for_good_another_takes_over(
    doomed: FaultyService, ledger: Ledger, chaos_row: Record
) -> None:
    caller = Caller(doomed, ledger)
    body = caller.create()
    for worker in doomed.workers[1:]:
        worker.kill()
    doomed.points["worker"].arm("drop.database")
    job = caller.drop_later(body["id"])
    assert job is not None
    doomed.points["worker"].wait_taken("drop.database")
    wait_until(lambda: not doomed.workers[0].running, what="end of the worker")
    doomed.restart(doomed.workers[1])
    assert caller.wait_for_job(job)["status"] == JobStatus.SUCCESS
    chaos_row.kills = len(doomed.workers)
    ledger.deleted(body["id"])
    revive(doomed)
    Oracle(doomed, ledger).assert_clean()


def revive(service: FaultyService) -> None:
    """Start the workers again that died for good."""
    for worker in service.workers:
        if not worker.running:
            service.restart(worker)
