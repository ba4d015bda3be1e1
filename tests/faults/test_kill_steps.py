"""kill -9 of fronts and workers at every step of create, drop, kill and extend, on MySQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.processes import wait_until
from devstack.valkey import Valkey
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.base import Engine
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.rounds import (
    KILL,
    REQUESTS,
    ROUNDS,
    creation_points,
    kill_in_traffic,
    kill_who_cleans_up,
    longest,
    removal_points,
)
from tests.faults.stack import FaultyService
from tests.support.service import running

#: Seconds for the largest number of kills in a test, with the way there and back.
LIMIT = longest(24 * ROUNDS) + 120


@pytest.fixture(scope="module")
def doomed(
    tmp_path_factory: pytest.TempPathFactory, mysql: Engine, valkey: Valkey
) -> Iterator[FaultyService]:
    """Three fronts and three workers that are killed all the time."""
    service = FaultyService(tmp_path_factory.mktemp("doomed"), [mysql], valkey=valkey)
    with running(service, fronts=3, workers=3):
        yield service


@pytest.mark.timeout(LIMIT)
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


@pytest.mark.timeout(LIMIT)
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
        worker=(*mysql.create, "create.active") * 2 * ROUNDS,
    )


def test_when_all_workers_die_for_good_another_takes_over(
    service_directory: Path, mysql: Engine, valkey: Valkey, ledger: Ledger
) -> None:
    service = FaultyService(service_directory, [mysql], valkey=valkey)
    with running(service, workers=1):
        caller = Caller(service, ledger)
        body = caller.create()
        service.points["worker"].arm("drop.database")
        job = caller.drop_later(body["id"])
        assert job is not None
        service.points["worker"].wait_taken("drop.database")
        wait_until(lambda: not service.workers[0].running, timeout=5, what="end of the worker")
        service.start_worker()
        record = Caller(service, ledger, token=caller.token, patience=15).wait_for_job(job)
        assert record["status"] == "success"
        ledger.deleted(body["id"])
        Oracle(service, ledger).assert_clean()
        service.workers.pop(0)


def test_a_standby_worker_takes_over_from_a_dead_one(
    service_directory: Path, mysql: Engine, valkey: Valkey, ledger: Ledger
) -> None:
    service = FaultyService(service_directory, [mysql], valkey=valkey)
    with running(service, workers=2):
        caller = Caller(service, ledger, patience=15)
        body = caller.create()
        service.points["worker"].arm("drop.database")
        caller.drop(body["id"])
        assert not service.points["worker"].armed("drop.database")
        assert [worker.running for worker in service.workers].count(True) == 1
        assert caller.slowest <= 15
        Oracle(service, ledger).assert_clean()
