"""kill -9 of fronts and workers at every step of create, drop, kill and extend.

The points are armed one after the other under traffic, so each kill also hits whatever else
the process was doing. A file that was taken is a kill that landed.
"""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import func, select

from devstack.mariadb import MariaDB
from devstack.processes import wait_until
from devstack.valkey import Valkey
from provisioning.models import Credentials
from provisioning.states import CredentialsState
from tests.faults.callers import LOST, Caller, Crowd, Ledger
from tests.faults.oracle import Oracle
from tests.faults.rounds import CREATE, DROP, KILL, ROUNDS, Landed, Traffic
from tests.faults.stack import FaultyService, supervised
from tests.support.client import Client
from tests.support.service import running

TYPES = ("sandbox", "transformations")
#: Points of a front on the way of a drop, a kill and an extend, and of a job before its drop.
REQUESTS = ("delete.recording", "delete.accepted", "kill.accepted", "extend.committed")
DELETE = ("delete.claiming", "delete.claimed")
#: Kills follow each other in about a second.
LONGEST = 180 * max(ROUNDS, 2) / 2
#: Creations of which nobody is in charge that the rounds with workers keep in stock.
STOCK = 16


@pytest.fixture(scope="module")
def doomed(
    tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB, valkey: Valkey
) -> Iterator[FaultyService]:
    """Three fronts and three workers that are killed all the time."""
    directory = tmp_path_factory.mktemp("doomed")
    service = FaultyService(directory, mariadb=mariadb, valkey=valkey)
    with running(service, fronts=3, workers=3):
        yield service


@pytest.fixture
def doomed_oracle(doomed: FaultyService, mariadb: MariaDB, ledger: Ledger) -> Oracle:
    return Oracle(doomed.installation, {"default": mariadb}, ledger)


@pytest.mark.timeout(LONGEST + 120)
@pytest.mark.parametrize("type_", TYPES)
def test_kills_at_every_step_leave_nothing(
    doomed: FaultyService, doomed_oracle: Oracle, ledger: Ledger, type_: str
) -> None:
    landed, traffic, rounds = Landed(), Traffic(doomed, ledger, type_), Crowd()
    web = (*CREATE * ROUNDS, *REQUESTS)
    worker = (*(*DELETE, *DROP[type_], "delete.settled") * ROUNDS, *KILL)
    with supervised(doomed), traffic.flowing(clients=6):
        rounds.run(landed.run, "web", doomed.points["web"], web)
        rounds.run(landed.run, "worker", doomed.points["worker"], worker)
        rounds.join(timeout=LONGEST)
    rounds.assert_no_problems()
    print(f"\n{type_}\n{landed.table()}")
    doomed_oracle.assert_clean()
    traffic.assert_kept()
    traffic.close_sessions()
    assert landed.total("web", "") == len(web)
    assert landed.total("worker", "") == len(worker)


@pytest.mark.timeout(LONGEST + 120)
def test_kills_of_those_who_clean_up_leave_nothing(
    doomed: FaultyService, doomed_oracle: Oracle
) -> None:
    """Creations that a front abandons are finished by workers, which die at every step too;
    creations that fail are undone by fronts, which die at every step of that."""
    landed, rounds, feeding = Landed(), Crowd(), Event()
    worker = (*CREATE[2:], *CREATE[2:]) * ROUNDS
    undo = (*DROP["sandbox"], *DROP["transformations"], "create.failed") * ROUNDS
    feeder = Crowd()
    with supervised(doomed):
        feeder.run(_abandon_creations, doomed, feeding)
        rounds.run(landed.run, "worker", doomed.points["worker"], worker)
        rounds.run(landed.run, "web", doomed.points["web"], undo)
        try:
            rounds.join(timeout=LONGEST)
        finally:
            feeding.set()
            feeder.join()
    rounds.assert_no_problems()
    feeder.assert_no_problems()
    doomed.points["web"].disarm()
    print(f"\n{landed.table()}")
    doomed_oracle.assert_clean()
    assert landed.total("worker", "create.") == len(worker) >= 20
    assert landed.total("web", "") == len(undo) >= 20


def _abandon_creations(service: FaultyService, stopped: Event) -> None:
    """Send creates that fail after the intent (the row is left) or before the end (undone)."""
    number = 0
    while not stopped.wait(0.05):
        if _unfinished_creations(service) >= STOCK:
            continue
        number += 1
        service.points["web"].arm("create.intent", "error")
        service.points["web"].arm("create.verified", "error")
        for _ in range(2):
            client = Client(service.port(number % 3), service.token(), timeout=5)
            try:
                client.post("/provisioning/mysql", {"type": TYPES[number % 2]})
            except LOST:
                # The front died in the undoing, which is what the round is about.
                continue


def _unfinished_creations(service: FaultyService) -> int:
    query = select(func.count()).where(Credentials.state == CredentialsState.CREATING)
    with service.installation.database.read() as session:
        return session.execute(query).scalar_one()


def test_when_all_workers_die_for_good_another_takes_over(
    service_directory: Path, mariadb: MariaDB, valkey: Valkey, ledger: Ledger
) -> None:
    service = FaultyService(service_directory, mariadb=mariadb, valkey=valkey)
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
        Oracle(service.installation, {"default": mariadb}, ledger).assert_clean()
        service.workers.pop(0)


def test_a_standby_worker_takes_over_from_a_dead_one(
    service_directory: Path, mariadb: MariaDB, valkey: Valkey, ledger: Ledger
) -> None:
    service = FaultyService(service_directory, mariadb=mariadb, valkey=valkey)
    with running(service, workers=2):
        caller = Caller(service, ledger, patience=15)
        body = caller.create()
        service.points["worker"].arm("drop.database")
        caller.drop(body["id"])
        assert not service.points["worker"].armed("drop.database")
        assert [worker.running for worker in service.workers].count(True) == 1
        assert caller.slowest <= 15
        Oracle(service.installation, {"default": mariadb}, ledger).assert_clean()
