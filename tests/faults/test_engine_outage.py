"""The engines restart under load, are read-only, or are gone for a while.

The Snowflake simulator would lose its memory with its process, so it is cut off from the
service in place of an end; and Snowflake has no read-only mode.
"""

import contextlib
import os
import time
from functools import partial

import pytest

from provisioning.state.models import Job
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.base import Engine
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.engines.postgres import PostgresEngine
from tests.faults.load import Load
from tests.faults.oracle import Oracle
from tests.faults.record import Record
from tests.faults.stack import FaultyService
from tests.support.deadlines import DEADLINE, LONG_DEADLINE, TEST_DEADLINE, bar, wait_until

pytestmark = pytest.mark.fault(row="F9")

#: Seconds after a server's return within which callers are served: the circuit tries again
#: every three seconds.
RECOVERY = bar(5.0)
#: Seconds within which work that was delayed by an outage is done: pauses double up to it.
RETRIES = bar(30.0)
#: Seconds that the servers are gone at least; pauses have grown by as much.
GONE = float(os.environ.get("ENGINE_OUTAGE_SECONDS", "0"))


@pytest.fixture
def exposed_oracle(exposed: FaultyService, ledger: Ledger) -> Oracle:
    return Oracle(exposed, ledger)


def test_restarts_under_load_are_outages_and_no_more(
    exposed: FaultyService,
    exposed_oracle: Oracle,
    breakable: dict[str, Engine],
    ledger: Ledger,
) -> None:
    engines = list(breakable.values())
    loads = [Load(exposed, ledger, engine, pause=0.1) for engine in engines]
    with contextlib.ExitStack() as flowing:
        for load in loads:
            flowing.enter_context(load.flowing(clients=2))
        loads[0].run_for(2)
        down = time.monotonic()
        for engine in engines:
            engine.leave()
        loads[0].run_for(1)
        for engine in engines:
            engine.come_back()
        up = time.monotonic()
        for load in loads:
            load.wait_served(up, RECOVERY)
        served = time.monotonic()
        for load in loads:
            load.wait_good(served, 10)
    for load, engine in zip(loads, engines, strict=True):
        assert not load.bad_outside((down, served)), engine.backend
        assert not load.not_plain_outages(), engine.backend
    exposed_oracle.assert_clean(timeout=RETRIES)


@pytest.mark.parametrize(
    ("backend", "type_"),
    [
        ("mysql", "sandbox"),
        ("mysql", "transformations"),
        ("postgresql", "sandbox"),
        ("redshift-workspace", "sandbox"),
    ],
)
def test_a_read_only_server_refuses_creates_and_delays_drops(
    exposed: FaultyService,
    exposed_oracle: Oracle,
    breakable: dict[str, Engine],
    ledger: Ledger,
    backend: str,
    type_: str,
) -> None:
    engine = breakable[backend]
    assert isinstance(engine, MySQLEngine | PostgresEngine)
    going, coming = (Caller(exposed, ledger, backend=backend) for _ in range(2))
    body = going.create(type_)
    with engine.read_only():
        _assert_unavailable(exposed, coming, type_)
        job = going.drop_later(body["id"])
        assert job is not None
        wait_until(partial(_tried, exposed, job, 1), what="a first try")
    assert going.wait_for_job(job)["status"] == "success"
    ledger.deleted(body["id"])
    engine.try_login(coming.create(type_)["credentials"])
    exposed_oracle.assert_clean(timeout=RETRIES)


@pytest.mark.timeout(TEST_DEADLINE + 3 * GONE)
def test_drops_accepted_before_the_servers_went_away_are_done_after_their_return(
    exposed: FaultyService,
    exposed_oracle: Oracle,
    breakable: dict[str, Engine],
    ledger: Ledger,
    chaos_row: Record,
) -> None:
    engines = list(breakable.values())
    callers = {
        (engine.backend, type_): Caller(
            exposed, ledger, backend=engine.backend, patience=RETRIES + GONE
        )
        for engine in engines
        for type_ in engine.types
    }
    bodies = [caller.create(type_) for (_, type_), caller in callers.items()]
    for worker in exposed.workers:
        worker.pause()
    jobs = [c.drop_later(b["id"]) for c, b in zip(callers.values(), bodies, strict=True)]
    for engine in engines:
        engine.leave()
    back_at = time.monotonic() + GONE
    for worker in exposed.workers:
        worker.resume()
    for job in jobs:
        assert job is not None
        wait_until(partial(_tried, exposed, job, 2), timeout=LONG_DEADLINE, what="two tries")
    for backend in breakable:
        _assert_unavailable(exposed, Caller(exposed, ledger, backend=backend), "sandbox")
    wait_until(
        lambda: time.monotonic() >= back_at, timeout=GONE + DEADLINE, what="the servers' return"
    )
    for engine in engines:
        engine.come_back()
    start = time.monotonic()
    for caller, job, body in zip(callers.values(), jobs, bodies, strict=True):
        assert job is not None
        assert caller.wait_for_job(job)["status"] == "success"
        ledger.deleted(body["id"])
    chaos_row.note("all jobs done {:.1f} s after the servers' return", time.monotonic() - start)
    exposed_oracle.assert_clean(timeout=RETRIES)


def _assert_unavailable(service: FaultyService, caller: Caller, type_: str) -> None:
    """Send a create that is refused as an outage is."""
    client = service.impatient_client(caller.token)
    answer = client.post(caller.path, {"type": type_})
    assert answer.status == 503, answer
    assert answer.body["reason"] == "backend_unavailable"
    assert int(answer.headers["Retry-After"]) > 0


def _tried(service: FaultyService, job_id: int, times: int) -> bool:
    with service.installation.database.read() as session:
        return session.get_one(Job, job_id).attempts >= times
