"""Creations that no worker survives: the state they leave behind."""

from typing import Any

import pytest

from provisioning.backends.base import Spec
from provisioning.background.job_runner import run_job
from provisioning.state.claims import Lease
from provisioning.state.enums import CredentialsState, JobCommand, JobStatus
from provisioning.state.models import Credentials, Job
from tests.support.waiting_jobs import Queue

DOCKER = ["docker"]
#: `JOB_ATTEMPTS` by default.
ATTEMPTS = 20


class Engine:
    """Stands in for a container engine: it notes what is dropped."""

    def __init__(self) -> None:
        self.dropped: list[int] = []

    def drop(self, spec: Spec, lease: Lease, access_ended: object = None) -> None:
        self.dropped.append(spec.credentials_id)

    def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture
def engine(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setitem(queue.installation.backends, "docker", engine)
    return engine


def half_made(queue: Queue, **values: Any) -> int:
    """Add a creation that has recorded what it makes; return its number, and its row's."""
    (number,) = queue.add("1", backend="docker")
    with queue.installation.database.write() as session:
        session.add(
            Credentials(
                id=number,
                backend="docker",
                type="jupyter",
                state=CredentialsState.CREATING,
                slot=f"{number}:docker:jupyter",
                project_id="1",
                project_name="1",
                token_id="1",
                token_description="",
                server="default",
                user_name="u",
                object_name="o",
                secret="",
                created_at=1,
                touched_at=1000,
                job_id=number,
            )
        )
    begun = {"status": JobStatus.PROCESSING, "command": JobCommand.CREATE, "started_at": 1}
    queue.change(number, credentials_id=number, **{**begun, **values})
    return number


def found(queue: Queue, number: int) -> tuple[Job, Credentials]:
    with queue.installation.database.read() as session:
        return session.get_one(Job, number), session.get_one(Credentials, number)


def test_what_was_made_is_removed(queue: Queue, engine: Engine) -> None:
    number = half_made(queue, attempts=ATTEMPTS)
    run_job(queue.installation, number, DOCKER)
    job, row = found(queue, number)
    assert engine.dropped == [number]
    assert row.state is CredentialsState.DROPPED
    assert (job.status, job.error) == (JobStatus.ERROR, "application")
    assert job.failure == "its worker died at attempt 20"


def test_a_removal_that_no_worker_survives_is_left_to_the_sweep(
    queue: Queue, engine: Engine
) -> None:
    number = half_made(queue, attempts=2 * ATTEMPTS, status=JobStatus.TERMINATING)
    run_job(queue.installation, number, DOCKER)
    job, row = found(queue, number)
    assert engine.dropped == []
    assert job.status is JobStatus.TERMINATED
    assert (row.state, row.slot, row.job_id) == (CredentialsState.DROPPING, None, None)
    assert row.not_before > 0
