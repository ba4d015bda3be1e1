"""The broker is killed and loses everything: only the state database decides."""

import time
from collections.abc import Iterator

import pytest

from devstack.processes import wait_until
from devstack.valkey import Valkey
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultyService
from tests.support.servers import connect_as
from tests.support.service import running

#: Seconds within which what was accepted during an outage is done after it.
CATCH_UP = 15.0


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


@pytest.mark.parametrize("seconds", [0, 30])
def test_what_is_accepted_while_the_broker_is_away_is_done_after_it(
    brokered: FaultyService, broker: Valkey, mysql: MySQLEngine, ledger: Ledger, seconds: int
) -> None:
    oracle = Oracle(brokered, ledger)
    caller, early = Caller(brokered, ledger), Caller(brokered, ledger)
    body = early.create("transformations")
    processes = [process.pid for process in (*brokered.workers, *brokered.beats)]
    broker.kill()
    back_at = time.monotonic() + seconds
    _drop_without_a_broker(brokered, early, body["id"])
    made = caller.create("transformations")
    connect_as(made["credentials"]).close()
    wait_until(lambda: time.monotonic() >= back_at, timeout=seconds + 1, what="the broker's return")
    late = Caller(brokered, ledger)
    _drop_without_a_broker(brokered, late, late.create()["id"])
    database = body["credentials"]["db"]
    prefix = brokered.installation.prefix
    assert database in mysql.take_inventory(prefix).objects
    broker.start()
    wait_until(
        lambda: database not in mysql.take_inventory(prefix).objects,
        timeout=CATCH_UP,
        what="the drop accepted during the outage",
    )
    oracle.assert_clean(timeout=CATCH_UP)
    assert [process.pid for process in (*brokered.workers, *brokered.beats)] == processes
    start = time.monotonic()
    caller.drop(made["id"])
    assert time.monotonic() - start < CATCH_UP
    oracle.assert_clean()


def _drop_without_a_broker(service: FaultyService, caller: Caller, credentials_id: str) -> None:
    """Send a drop that nobody can be told of: it is accepted at once, and hidden."""
    client = service.impatient_client(caller.token, timeout=30)
    caller.ledger.leaving(credentials_id)
    start = time.monotonic()
    answer = client.delete(f"/provisioning/mysql/{credentials_id}")
    assert answer.status == 202, answer
    assert time.monotonic() - start < 5
    assert client.get(f"/provisioning/mysql/{credentials_id}").status == 404
    caller.ledger.deleted(credentials_id)
