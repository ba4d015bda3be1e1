"""Expiry and recovery with several schedulers, and objects that somebody removed by hand."""

import contextlib
import json

from sqlalchemy import func, select, update

from devstack.mariadb import MariaDB
from devstack.processes import wait_until
from provisioning.database import now_ms
from provisioning.models import Credentials, Job
from provisioning.states import CredentialsState, JobStatus
from tests.faults.callers import Caller, Ledger
from tests.faults.oracle import Oracle
from tests.faults.stack import SETTLE, FaultyService

TYPES = ("sandbox", "transformations")


def expire(service: FaultyService, numbers: list[int]) -> None:
    """Let the credentials have ended a second ago, by the state database's clock."""
    statement = (
        update(Credentials).where(Credentials.id.in_(numbers)).values(expires_at=now_ms() - 1000)
    )
    with service.installation.database.write() as session:
        session.execute(statement)


def wait_dropped(service: FaultyService, numbers: list[int]) -> None:
    query = select(func.count()).where(
        Credentials.id.in_(numbers), Credentials.state == CredentialsState.DROPPED
    )

    def all_dropped() -> bool:
        with service.installation.database.read() as session:
            return session.execute(query).scalar_one() == len(numbers)

    wait_until(all_dropped, timeout=SETTLE, what="all dropped")


def jobs_of(service: FaultyService, numbers: list[int]) -> list[Job]:
    query = select(Job).where(Job.credentials_id.in_(numbers))
    with service.installation.database.read() as session:
        return list(session.scalars(query))


def test_three_schedulers_and_two_workers_act_once_on_each_row(
    service: FaultyService, oracle: Oracle, ledger: Ledger
) -> None:
    callers = [Caller(service, ledger) for _ in range(30)]
    numbers = [int(caller.create(TYPES[n % 2])["id"]) for n, caller in enumerate(callers)]
    others = [service.start_beat() for _ in range(2)]
    wait_until(
        lambda: all(other.log.exists() and other.running for other in others),
        timeout=10,
        what="three schedulers",
    )
    expire(service, numbers)
    wait_dropped(service, numbers)
    jobs = jobs_of(service, numbers)
    assert sorted(job.credentials_id for job in jobs) == sorted(numbers)
    assert {(job.status, job.attempts) for job in jobs} == {(JobStatus.SUCCESS, 1)}
    for number in numbers:
        ledger.leaving(str(number))
        ledger.deleted(str(number))
    oracle.assert_clean()
    for other in others:
        other.stop()
        service.beats.remove(other)


def test_objects_removed_by_hand_close_their_rows_at_the_first_try(
    service: FaultyService, oracle: Oracle, ledger: Ledger, mariadb: MariaDB
) -> None:
    start = len(service.logs())
    numbers = []
    with contextlib.closing(mariadb.connect()) as connection, connection.cursor() as cursor:
        for number in range(12):
            caller = Caller(service, ledger)
            body = caller.create(TYPES[number % 2])
            numbers.append(int(body["id"]))
            database, user = (f"`{body['credentials'][name]}`" for name in ("db", "user"))
            # The database, the login, or both.
            if number // 2 % 3 != 1:
                cursor.execute(f"DROP DATABASE {database}")
            if number // 2 % 3 != 0:
                cursor.execute(f"DROP USER {user}@'%'")
    expire(service, numbers)
    wait_dropped(service, numbers)
    assert {(job.status, job.attempts) for job in jobs_of(service, numbers)} == {
        (JobStatus.SUCCESS, 1)
    }
    for number in numbers:
        ledger.leaving(str(number))
        ledger.deleted(str(number))
    oracle.assert_clean()
    assert not _complaints(service.logs()[start:])


def _complaints(text: str) -> list[str]:
    """Return the log lines about delays and errors, and all that is no log line."""
    complaints = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            if json.loads(line).get("level") in ("warning", "error", "critical"):
                complaints.append(line)
    return complaints
