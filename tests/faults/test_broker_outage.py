"""The broker is killed and loses everything: only the state database decides."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devstack.valkey import Valkey
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.messages import Messages
from tests.faults.oracle import Oracle
from tests.faults.record import Record
from tests.faults.stack import FaultyService
from tests.support.deadlines import DEADLINE, TEST_DEADLINE, bar, wait_until
from tests.support.servers import connect_as
from tests.support.service import running
from workers.app import LONGEST_PAUSE, PatientConnection

#: Seconds within which what was accepted during an outage is done after it.
CATCH_UP = bar(15.0)
#: Seconds that the broker is away.
AWAY = float(os.environ.get("OUTAGE_SECONDS", "5"))
#: Jobs whose messages are in the broker when it dies.
QUEUED = 12


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A broker of our own to kill."""
    server = Valkey(tmp_path_factory.mktemp("broker"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def brokered(
    tmp_path_factory: pytest.TempPathFactory, mysql: MySQLEngine, broker: Valkey
) -> Iterator[FaultyService]:
    service = FaultyService(tmp_path_factory.mktemp("brokered"), [mysql], valkey=broker)
    with running(service, fronts=2, workers=2):
        yield service


@pytest.mark.fault(row="F7")
@pytest.mark.timeout(AWAY + TEST_DEADLINE)
@pytest.mark.parametrize("seconds", [0, AWAY])
def test_what_was_accepted_is_done_after_the_broker_lost_everything(
    brokered: FaultyService,
    broker: Valkey,
    mysql: MySQLEngine,
    ledger: Ledger,
    chaos_row: Record,
    seconds: float,
) -> None:
    oracle = Oracle(brokered, ledger)
    caller, early = Caller(brokered, ledger), Caller(brokered, ledger)
    body = early.create("transformations")
    processes = [process.pid for process in (*brokered.workers, *brokered.beats)]
    for worker in brokered.workers:
        worker.pause()
    jobs = _queue_drops(brokered, ledger)
    broker.kill()
    back_at = time.monotonic() + seconds
    for worker in brokered.workers:
        worker.resume()
    jobs.append(_drop_without_a_broker(brokered, early, body["id"]))
    made = caller.create("transformations")
    connect_as(made["credentials"]).close()
    wait_until(
        lambda: time.monotonic() >= back_at, timeout=seconds + DEADLINE, what="the broker's return"
    )
    late = Caller(brokered, ledger)
    jobs.append(_drop_without_a_broker(brokered, late, late.create()["id"]))
    assert body["credentials"]["db"] in mysql.take_inventory(oracle.installation.prefix).objects
    broker.start()
    start = time.monotonic()
    for job in jobs:
        record = Caller(brokered, ledger, token=early.token, patience=CATCH_UP).wait_for_job(job)
        assert record["status"] == "success"
    seconds_to_catch_up = time.monotonic() - start
    assert seconds_to_catch_up <= CATCH_UP
    chaos_row.kills = 1
    chaos_row.note("all jobs done {:.1f} s after the broker's return", seconds_to_catch_up)
    assert [process.pid for process in (*brokered.workers, *brokered.beats)] == processes
    start = time.monotonic()
    caller.drop(made["id"])
    assert time.monotonic() - start < CATCH_UP
    oracle.assert_clean()


def _queue_drops(service: FaultyService, ledger: Ledger) -> list[int]:
    """Ask for drops that no worker hears of before their messages are lost."""
    jobs = []
    for _ in range(QUEUED):
        caller = Caller(service, ledger)
        body = caller.create()
        job = caller.drop_later(body["id"])
        assert job is not None
        jobs.append(job)
        ledger.deleted(body["id"])
    assert Messages(service).waiting() > 0
    return jobs


def test_the_pauses_between_two_looks_for_the_broker_do_not_grow() -> None:
    """What workers and beat ask it with; by itself a pause grows to half a minute."""
    pauses: list[float] = []

    def note(_: Exception, pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 2:
            raise Enough

    # Its class has no types.
    connection: Any = PatientConnection
    with pytest.raises(Enough):
        connection("redis://127.0.0.1:1/0").ensure_connection(note)
    assert max(pauses) <= LONGEST_PAUSE


class Enough(Exception):
    """Two pauses were seen."""


def _drop_without_a_broker(service: FaultyService, caller: Caller, credentials_id: str) -> int:
    """Send a drop while no worker can get a message: it is accepted at once, and hidden.

    Return its job.
    """
    client = service.impatient_client(caller.token)
    caller.ledger.leaving(credentials_id)
    start = time.monotonic()
    answer = client.delete(f"/provisioning/mysql/{credentials_id}", headers={"Prefer": "wait=30"})
    assert answer.status == 202, answer
    assert time.monotonic() - start < bar(5)
    assert client.get(f"/provisioning/mysql/{credentials_id}").status == 404
    caller.ledger.deleted(credentials_id)
    return int(answer.body["id"])
