"""The state database is killed and restarted under load."""

import os
import time
from collections.abc import Iterator

import pytest

from devstack.postgres import Postgres
from devstack.valkey import Valkey
from tests.faults.callers import Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.load import Load
from tests.faults.oracle import Oracle
from tests.faults.record import Record
from tests.faults.stack import FaultyService
from tests.support.deadlines import TEST_DEADLINE, bar, wait_until
from tests.support.servers import postgres_state_url
from tests.support.service import running

#: Seconds after the database's return within which everything works again.
READY = bar(3.0)
#: How often it is restarted.
ROUNDS = int(os.environ.get("STATE_ROUNDS", "1"))


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL of our own to kill."""
    if Postgres.missing():
        pytest.skip("postgres is not installed: apt-get install postgresql")
    server = Postgres(tmp_path_factory.mktemp("state"))
    server.start()
    yield server
    server.stop()


@pytest.mark.fault(row="F8")
@pytest.mark.timeout(TEST_DEADLINE + ROUNDS * 20)
def test_a_restart_of_the_state_database_is_an_outage_and_no_more(
    tmp_path_factory: pytest.TempPathFactory,
    mysql: MySQLEngine,
    valkey: Valkey,
    state: Postgres,
    ledger: Ledger,
    chaos_row: Record,
) -> None:
    service = FaultyService(
        tmp_path_factory.mktemp("stateful"),
        [mysql],
        valkey=valkey,
        state_url=postgres_state_url(state, "stateful"),
    )
    load = Load(service, ledger, mysql)
    with running(service, fronts=2):
        with load.flowing(clients=6):
            load.run_for(1)
            outages = []
            for _ in range(ROUNDS):
                down = time.monotonic()
                state.kill()
                load.run_for(2)
                state.start()
                up = time.monotonic()
                wait_until(lambda: all(map(service.answers, range(2))), timeout=READY, what="ready")
                chaos_row.note("ready after {:.1f} s", time.monotonic() - up)
                load.wait_served(up, READY)
                served = time.monotonic()
                outages.append((down, served))
                load.wait_good(served, 20)
        assert not load.bad_outside(*outages)
        assert not load.not_plain_outages()
        chaos_row.rounds = chaos_row.kills = ROUNDS
        Oracle(service, ledger).assert_clean()
