"""Very many credentials expire at once: all go, each once, and nobody else waits for it."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from provisioning.access.tokens import Principal
from provisioning.credentials.creation import NewCredentials, new_row
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState, JobStatus
from tests.faults.callers import Caller, Crowd, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.messages import Messages
from tests.faults.oracle import Oracle
from tests.faults.rows import count_dropped, expire, jobs_of, wait_dropped
from tests.faults.stack import FaultyService, supervised
from tests.support.deadlines import LONG_DEADLINE, TEST_DEADLINE, bar, wait_until

pytestmark = pytest.mark.fault(row="F14")

#: The long form is ten thousand.
AMOUNT = int(os.environ.get("DRAIN_CREDENTIALS", "300"))
#: Seconds for each of them, on a machine that others use too.
EACH = 0.2
#: What a caller may wait meanwhile, on such a machine.
LONGEST_WAIT = bar(8.0)


@pytest.mark.timeout(TEST_DEADLINE + bar(EACH * AMOUNT))
def test_all_go_once_and_callers_do_not_wait_for_it(
    service: FaultyService, oracle: Oracle, ledger: Ledger, mysql: MySQLEngine
) -> None:
    callers = [Caller(service, ledger) for _ in range(5)]
    made = [caller.create("transformations")["id"] for caller in callers]
    numbers = make(service, mysql, AMOUNT)
    expire(service, numbers)
    most: Counter[int] = Counter()
    crowd, waits = Crowd(), list[float]()

    def come_and_go(caller: Caller, credentials_id: str) -> None:
        start = time.monotonic()
        caller.drop(credentials_id)
        Caller(service, ledger).create()
        waits.append(time.monotonic() - start)

    end = time.monotonic() + bar(30 + EACH * AMOUNT)
    while (dropped := count_dropped(service, numbers)) < AMOUNT:
        assert time.monotonic() < end, f"{dropped} of {AMOUNT} in time"
        for worker in service.workers:
            most[worker.pid] = max(most[worker.pid], connections_of(worker.pid, mysql.server.port))
        while dropped and callers:
            crowd.run(come_and_go, callers.pop(), made.pop())
    assert not callers, "it was over too soon"
    crowd.join()
    crowd.assert_no_problems()
    assert max(waits) < LONGEST_WAIT
    # One worker may have done it alone.
    assert 0 < max(most.values()) <= limit(service), most
    jobs = jobs_of(service, numbers)
    assert sorted(job.credentials_id or 0 for job in jobs) == sorted(numbers)
    assert {(job.status, job.attempts) for job in jobs} == {(JobStatus.SUCCESS, 1)}
    assert Messages(service).waiting("provisioning-upkeep") < 20
    oracle.assert_clean()


def test_workers_that_die_in_a_batch_leave_nothing_behind(
    service: FaultyService, oracle: Oracle, mysql: MySQLEngine
) -> None:
    numbers = make(service, mysql, 40)
    points = ("expiry.claiming", "expiry.claimed", "drop.login", "expiry.settled")
    for point in points:
        service.points["worker"].arm(point)
    with supervised(service) as supervisor:
        expire(service, numbers)
        for point in points:
            service.points["worker"].wait_taken(point, timeout=LONG_DEADLINE)
        wait_until(lambda: supervisor.restarts > 0, what="a worker's return")
        wait_dropped(service, numbers, timeout=LONG_DEADLINE)
    jobs = jobs_of(service, numbers)
    assert sorted(job.credentials_id or 0 for job in jobs) == sorted(numbers)
    assert {job.status for job in jobs} == {JobStatus.SUCCESS}
    oracle.assert_clean()


def limit(service: FaultyService) -> int:
    """Return the connections that a process may have to one server."""
    return service.installation.config.engine_connections


def make(service: FaultyService, engine: MySQLEngine, amount: int) -> list[int]:
    """Record active credentials of one project, and make their objects by hand."""
    installation = service.installation
    backend = installation.backends["mysql"]
    with installation.database.read() as session:
        now = read_clock(session)
    rows = []
    for number in range(amount):
        owner = Principal(f"expired-{amount}-{number}", "", "70", "")
        wanted = NewCredentials(owner, backend, "transformations")
        row = new_row(installation, wanted, "default", now)
        row.state, row.claim_owner = CredentialsState.ACTIVE, None
        rows.append(row)
    # As the service does it: what a server has before any row names it is a sign of a lost state.
    with installation.database.write() as session:
        session.add_all(rows)
    with engine.mariadb.connect() as connection, connection.cursor() as cursor:
        for row in rows:
            cursor.execute(f"CREATE DATABASE `{row.object_name}`")
            cursor.execute(f"CREATE USER `{row.user_name}`@`%` IDENTIFIED BY 'Secret4711'")
            pattern = row.object_name.replace("_", "\\_")
            cursor.execute(f"GRANT ALL PRIVILEGES ON `{pattern}`.* TO `{row.user_name}`@`%`")
    return [row.id for row in rows]


def connections_of(pid: int, port: int) -> int:
    """Return how many connections a process has to a port."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = (line for line in lines if line[3] == "01")
    return sum(
        int(line[2].rpartition(":")[2], 16) == port and line[9] in sockets for line in established
    )
