"""What sweeps do in small steps: old keys, and removals that kill the worker that takes them up."""

import pytest
from sqlalchemy import func, insert, select, update

from provisioning.backends.base import Spec
from provisioning.background.sweep import sweep
from provisioning.credentials.reconcile import RETRIES, resume
from provisioning.jobs.idempotency import FORGET_BATCH, KEPT, forget_old_keys
from provisioning.state.claims import Lease
from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials, RequestKey
from tests.support.waiting_jobs import Queue

NUMBER = 800_001


class Died(BaseException):
    """The end of a worker."""


class Engine:
    """Stands in for a server: a process that drops something dies of it, until it is repaired."""

    def __init__(self) -> None:
        self.mended = False
        self.tried = 0

    def drop(self, spec: Spec, lease: Lease, access_ended: object = None) -> None:
        self.tried += 1
        if not self.mended:
            raise Died

    def servers(self) -> list[str]:
        return []

    def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture
def engine(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setitem(queue.installation.backends, "mysql", engine)
    return engine


def test_a_removal_that_kills_its_workers_is_tried_ever_less_often(
    queue: Queue, engine: Engine
) -> None:
    abandon(queue)
    pauses = []
    for attempt in range(1, 9):
        with pytest.raises(Died):
            resume(queue.installation, NUMBER)
        # Its claim runs out, and nobody takes it up before the pause is over.
        change(queue, claim_until=now_ms() - 1)
        assert attempts_and_pause(queue)[0] == attempt == engine.tried
        pauses.append(attempts_and_pause(queue)[1])
        assert (NUMBER, "mysql") not in sweep(queue.installation).credentials
        change(queue, not_before=0)
        assert (NUMBER, "mysql") in sweep(queue.installation).credentials
    assert all(later > 1.5 * sooner for sooner, later in zip(pauses[:5], pauses[1:6], strict=True))
    assert RETRIES.longest * 0.9 <= pauses[-1] <= RETRIES.longest
    engine.mended = True
    resume(queue.installation, NUMBER)
    with queue.installation.database.write() as session:
        row = session.get_one(Credentials, NUMBER)
        assert row.state is CredentialsState.DROPPED
        session.delete(row)


def test_keys_are_forgotten_in_batches_the_oldest_first(queue: Queue) -> None:
    with queue.installation.database.write() as session:
        session.execute(
            insert(RequestKey),
            [
                {"digest": f"{n:064}", "body": "", "job_id": n, "created_at": 1000 + n}
                for n in range(FORGET_BATCH + 20)
            ],
        )
        young = {"digest": "young", "body": "", "job_id": 1, "created_at": now_ms() - KEPT + 60_000}
        session.execute(insert(RequestKey).values(**young))
    forget_old_keys(queue.installation.database)
    with queue.installation.database.read() as session:
        assert session.execute(select(func.count(), func.min(RequestKey.created_at))).one() == (
            21,
            1000 + FORGET_BATCH,
        )
    forget_old_keys(queue.installation.database)
    with queue.installation.database.write() as session:
        assert session.scalars(select(RequestKey.digest)).all() == ["young"]
        session.delete(session.get_one(RequestKey, "young"))


def abandon(queue: Queue) -> None:
    """Record a credential that no job and no process is about to remove."""
    texts = ("project_name", "token_description", "secret")
    with queue.installation.database.write() as session:
        session.add(
            Credentials(
                id=NUMBER,
                backend="mysql",
                type="transformations",
                state=CredentialsState.DROPPING,
                project_id="1",
                token_id="1",
                server="default",
                user_name="u",
                object_name="o",
                created_at=1,
                touched_at=1000,
                **dict.fromkeys(texts, ""),
            )
        )


def change(queue: Queue, **values: object) -> None:
    with queue.installation.database.write() as session:
        session.execute(update(Credentials).where(Credentials.id == NUMBER).values(**values))


def attempts_and_pause(queue: Queue) -> tuple[int, int]:
    query = select(Credentials.attempts, Credentials.not_before - now_ms())
    with queue.installation.database.read() as session:
        attempts, pause = session.execute(query.where(Credentials.id == NUMBER)).one()
    return attempts, pause
