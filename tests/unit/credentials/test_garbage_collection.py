"""What a collection of garbage begins to remove, in each kind of state database."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from provisioning.access.management_tokens import Operator
from provisioning.credentials.garbage_collection import BATCH, collect_garbage
from provisioning.credentials.observation import observe, stop_observing
from provisioning.errors import Observing
from provisioning.installation import Installation
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState, JobCommand
from provisioning.state.events import newest_events
from provisioning.state.models import Credentials, Job
from tests.support.rows import HOUR, add_credentials
from tests.support.waiting_jobs import Queue

OPERATOR = Operator("3", "ada", "17")


def collect(installation: Installation, hours: int = 2) -> list[int]:
    return collect_garbage(installation, OPERATOR, "mysql", "sandbox", hours * 3600).ids


def test_what_was_touched_long_ago_goes_and_the_rest_stays(queue: Queue) -> None:
    database = queue.installation.database
    old = add_credentials(database, 3, age=3 * HOUR)
    expired = add_credentials(database, age=3 * HOUR, expires_at=1)
    eternal = add_credentials(database, age=3 * HOUR, expires_at=None)
    spared = [
        *add_credentials(database, age=HOUR),
        *add_credentials(database, age=3 * HOUR, type="transformations"),
        *add_credentials(database, age=3 * HOUR, backend="snowflake"),
        *add_credentials(database, age=3 * HOUR, state=CredentialsState.DROPPING),
        *add_credentials(database, age=3 * HOUR, state=CredentialsState.CREATING),
    ]
    assert collect(queue.installation) == [*old, *expired, *eternal]
    assert collect(queue.installation) == []
    with database.read() as session:
        jobs = session.scalars(select(Job).order_by(Job.id)).all()
        rows = {row.id: row for row in session.scalars(select(Credentials))}
    assert [job.credentials_id for job in jobs] == [*old, *expired, *eternal]
    for job in jobs:
        row = rows[job.credentials_id or 0]
        assert (row.state, row.job_id) == (CredentialsState.DROPPING, job.id)
        # A create waits for the removal, as it does for the owner's own.
        assert row.slot is not None
        assert job.command is JobCommand.DELETE
        assert (job.token_id, job.project_id) == (row.token_id, row.project_id)
        assert job.run_id.startswith("17.")
    for number in spared:
        assert rows[number].job_id is None
    told = newest_events(database, 10, action="credentials.collected")
    assert {event.token_id for event in told} == {"operator:3"}
    assert [event.credentials_id for event in told] == [job.credentials_id for job in jobs]
    assert [event.job_id for event in told] == [job.id for job in jobs]


def test_many_go_in_batches_each_once_though_several_collect(queue: Queue) -> None:
    old = add_credentials(queue.installation.database, 2 * BATCH + 1, age=3 * HOUR)
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(collect, queue.installation) for _ in range(3)]
    assert sorted(number for one in found for number in one.result()) == old
    assert collect(queue.installation) == []


def test_what_an_operator_protects_stays(queue: Queue) -> None:
    database = queue.installation.database
    gone, kept = add_credentials(database, 2, age=3 * HOUR)
    with database.write() as session:
        session.get_one(Credentials, kept).protected_until = read_clock(session) + HOUR
    assert collect(queue.installation) == [gone]


def test_nothing_is_collected_after_a_restore_until_somebody_says_so(queue: Queue) -> None:
    database = queue.installation.database
    (old,) = add_credentials(database, age=3 * HOUR)
    assert observe(database, "restored")
    try:
        with pytest.raises(Observing):
            collect(queue.installation)
    finally:
        with database.write() as session:
            stop_observing(session)
    assert collect(queue.installation) == [old]
