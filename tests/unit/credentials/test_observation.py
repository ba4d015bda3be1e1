"""Observe mode: what is held, what goes on, and what makes the service observe."""

from collections.abc import Iterator

import pytest
from sqlalchemy import delete, select, update

from provisioning.backends.base import ServerObject, Spec
from provisioning.background.job_runner import run_job
from provisioning.background.sweep import sweep
from provisioning.credentials.observation import HELD, Held, current_observation, observe
from provisioning.credentials.reconcile import drop_objects
from provisioning.orphans.restore import begin_observation, end_observation, notice_restore
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CredentialsState, JobStatus
from provisioning.state.models import Credentials, Event, Job, Sequence, Setting
from tests.backends.case import lease
from tests.support.waiting_jobs import Queue
from tests.unit.credentials.test_abandoned_creations import DOCKER, Engine, found, half_made

MINUTE = 60_000


class Server(Engine):
    """An engine with a list of what it has."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []

    def servers(self) -> list[str]:
        return ["default"]

    def inventory(self, prefix: str, server: str) -> list[ServerObject]:
        return [
            ServerObject(
                server, "container", str(n), None, str(n), Spec(n, "jupyter", server, "", str(n))
            )
            for n in self.numbers
        ]

    def exists(self, spec: Spec) -> bool:
        return spec.credentials_id in self.numbers


@pytest.fixture
def server(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A container engine in a service that acts, and that has never swept."""
    server = Server()
    monkeypatch.setitem(queue.installation.backends, "docker", server)
    yield server
    with queue.installation.database.write() as session:
        session.execute(delete(Setting).where(Setting.name == "observing"))
        session.execute(delete(Credentials))
        ours = Sequence.name.in_(("clock", "confirmed"))
        session.execute(update(Sequence).where(ours).values(value=0))


def swept_ago(queue: Queue, milliseconds: int) -> int:
    """Let the last sweep have been then; return its time."""
    with queue.installation.database.write() as session:
        clock = update(Sequence).where(Sequence.name == "clock")
        session.execute(clock.values(value=now_ms() - milliseconds))
        return read_clock(session) - milliseconds


def observes(queue: Queue) -> bool:
    return current_observation(queue.installation.database) is not None


def test_what_was_begun_before_is_held_and_goes_on_after(queue: Queue, server: Server) -> None:
    number = half_made(queue, status=JobStatus.TERMINATING)
    assert observe(queue.installation.database, "a test")
    assert not observe(queue.installation.database, "another one")
    assert run_job(queue.installation, number, DOCKER) is None
    job, row = found(queue, number)
    assert (job.not_before, row.not_before) == (HELD, HELD)
    with pytest.raises(Held):
        drop_objects(queue.installation, row, lease())
    end_observation(queue.installation)
    run_job(queue.installation, number, DOCKER)
    assert server.dropped == [number]
    assert not observes(queue)


def test_what_is_made_or_asked_for_since_is_removed(queue: Queue, server: Server) -> None:
    number = half_made(queue)
    _, row = found(queue, number)
    observe(queue.installation.database, "a test")
    with queue.installation.database.read() as session:
        now = read_clock(session)
    drop_objects(queue.installation, row, lease(), requested_at=now)
    row.created_at = now
    drop_objects(queue.installation, row, lease())
    assert server.dropped == [number, number]


def test_what_was_finished_since_the_copy_is_not_made_again(queue: Queue, server: Server) -> None:
    number = half_made(queue)
    observe(queue.installation.database, "a test")
    server.numbers = [number]
    end_observation(queue.installation)
    job, row = found(queue, number)
    assert (row.state, row.job_id) == (CredentialsState.ACTIVE, None)
    # The job looks for what its slot has, and finds it.
    assert (job.credentials_id, job.not_before) == (None, 0)


@pytest.mark.parametrize("silence", [0, 5 * MINUTE])
def test_a_broker_that_knows_of_a_later_sweep_tells_an_old_state(
    queue: Queue, server: Server, silence: int
) -> None:
    last = swept_ago(queue, silence)
    notice_restore(queue.installation, None)
    notice_restore(queue.installation, last + MINUTE // 2)
    assert not observes(queue)
    notice_restore(queue.installation, last + 2 * MINUTE)
    assert observes(queue)


def test_after_a_silence_a_number_that_no_row_has_tells_an_old_state(
    queue: Queue, server: Server, state_url: str
) -> None:
    known = half_made(queue)
    server.numbers = [known]
    swept_ago(queue, 2 * MINUTE)
    sweep(queue.installation)
    assert not observes(queue)
    server.numbers = [known, 10**9 + known]
    notice_restore(queue.installation)
    assert not observes(queue)
    swept_ago(queue, 2 * MINUTE)
    sweep(queue.installation)
    assert observes(queue)
    # This process may have numbers left that it took in another test.
    other = Queue(state_url)
    assert other.installation.numbers.take() > 10**9 + known
    other.installation.close()
    # What the operator knows of is no news, even if nobody removes it.
    end_observation(queue.installation)
    swept_ago(queue, 2 * MINUTE)
    notice_restore(queue.installation)
    assert not observes(queue)


def test_the_observation_is_in_the_audit(queue: Queue, server: Server) -> None:
    begin_observation(queue.installation, "a drill")
    end_observation(queue.installation)
    with queue.installation.database.read() as session:
        query = select(Event).order_by(Event.id.desc()).limit(2)
        ended, begun = session.scalars(query)
        assert session.scalars(select(Job).where(Job.not_before == HELD)).all() == []
    assert (begun.action, begun.detail) == ("observation.begun", {"why": "a drill"})
    assert ended.action == "observation.ended"
