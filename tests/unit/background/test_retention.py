"""Old jobs and credentials are forgotten in small batches, and nothing else is."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, select, update

from provisioning.background.retention import BATCH, forget_old
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CallbackState, CredentialsState, JobStatus
from provisioning.state.events import Action, record_job_event
from provisioning.state.models import Callback, Credentials, Event, Job
from tests.support.statements import plans_of, statements_of
from tests.support.waiting_jobs import Queue

DAY = 86_400_000


def days_ago(queue: Queue, days: float) -> int:
    with queue.installation.database.read() as session:
        return read_clock(session) - round(days * DAY)


def remaining(queue: Queue) -> set[int]:
    with queue.installation.database.read() as session:
        return set(session.scalars(select(Job.id)))


def end_all(queue: Queue, numbers: list[int], days: float) -> None:
    values = {"status": JobStatus.SUCCESS, "ended_at": now_ms() - round(days * DAY)}
    with queue.installation.database.write() as session:
        session.execute(update(Job).where(Job.id.in_(numbers)).values(**values))


def test_what_ended_before_the_retention_goes_and_the_rest_stays(queue: Queue) -> None:
    old, young, waiting = queue.add("1", 3), queue.add("1", 2), queue.add("1", 2)
    end_all(queue, old, 90.01)
    end_all(queue, young, 89.99)
    forget_old(queue.installation)
    assert remaining(queue) == {*young, *waiting}


def test_one_batch_goes_at_a_time_the_oldest_first(queue: Queue) -> None:
    later, first = queue.add("1", BATCH), queue.add("1", BATCH)
    end_all(queue, later, 100)
    end_all(queue, first, 200)
    forget_old(queue.installation)
    assert remaining(queue) == set(later)


def test_sweeps_at_the_same_moment_do_no_harm(queue: Queue) -> None:
    old, young = queue.add("1", BATCH), queue.add("1", 5)
    end_all(queue, old, 100)
    end_all(queue, young, 1)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(forget_old, queue.installation) for _ in range(4)]:
            done.result()
    assert remaining(queue) == set(young)


def test_a_job_takes_its_callback_along(queue: Queue) -> None:
    old, young = queue.add("1", 2)
    with queue.installation.database.write() as session:
        session.add_all(
            Callback(id=number, state=CallbackState.TAKEN, url="", job_url="")
            for number in (old, young)
        )
    end_all(queue, [old], 100)
    end_all(queue, [young], 1)
    forget_old(queue.installation)
    with queue.installation.database.read() as session:
        assert session.get(Callback, old) is None
        assert session.get(Callback, young) is not None


def test_dropped_credentials_go_and_live_ones_stay(queue: Queue) -> None:
    gone, live = 900_001, 900_002
    long_ago = days_ago(queue, 100)
    with queue.installation.database.write() as session:
        session.add_all(
            Credentials(
                id=number,
                backend="mysql",
                type="sandbox",
                state=CredentialsState.DROPPED if dropped_at else CredentialsState.ACTIVE,
                project_id="1",
                project_name="1",
                token_id="1",
                token_description="",
                server="default",
                user_name="u",
                object_name="o",
                secret="",
                created_at=long_ago,
                touched_at=long_ago,
                dropped_at=dropped_at,
            )
            for number, dropped_at in ((gone, long_ago), (live, None))
        )
    forget_old(queue.installation)
    with queue.installation.database.write() as session:
        assert session.get(Credentials, gone) is None
        assert session.get(Credentials, live) is not None
        session.execute(delete(Credentials).where(Credentials.id == live))


def test_old_events_go_and_young_ones_stay(queue: Queue) -> None:
    """Also those of a job that goes on: none is needed to end it."""
    (number,) = queue.add("1")
    with queue.installation.database.write() as session:
        session.execute(delete(Event))
        for _ in range(4):
            record_job_event(session, Action.JOB_STEP, session.get_one(Job, number))
        first, *others = session.scalars(select(Event.id).order_by(Event.id))
        long_ago = now_ms() - 91 * DAY
        session.execute(update(Event).where(Event.id == first).values(time=long_ago))
    forget_old(queue.installation)
    with queue.installation.database.read() as session:
        assert session.scalars(select(Event.id).order_by(Event.id)).all() == others
    assert remaining(queue) == {number}


@pytest.mark.parametrize("state_url", ["sqlite"], indirect=True)
def test_nothing_is_read_through_to_find_what_is_old(queue: Queue) -> None:
    end_all(queue, queue.add("1", 2), 100)
    database = queue.installation.database
    with statements_of(database) as statements:
        forget_old(queue.installation)
    plans = plans_of(database, statements)
    assert any("ix_jobs_unfinished" in plan for plan in plans)
    assert any("ix_credentials_dropped" in plan for plan in plans)
    assert any("ix_events_time" in plan for plan in plans)
    for plan in plans:
        assert "SCAN" not in plan, plan
