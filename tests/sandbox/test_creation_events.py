"""What the events of a creation tell, whichever way it goes; the engine is a stand-in."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import update

from provisioning import config
from provisioning.backends.base import (
    Backend,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    Owner,
    Placement,
    Spec,
)
from provisioning.bootstrap import prepare_state
from provisioning.catalog import BACKENDS
from provisioning.events import events_of_job
from provisioning.installation import Installation
from provisioning.jobs import request_termination
from provisioning.models import Event, Job
from provisioning.running import run_job
from provisioning.sandbox.orders import request_sandbox
from provisioning.sandbox.request import SandboxRequest
from provisioning.tokens import Caller, Principal
from provisioning.vault import Secret, generate_key

OWNER = Caller(Principal("4", "ada", "70", "Project"), Secret("its token"), "17")
STARTED = ["job.accepted", "job.started", "job.step prepare"]


class StandInEngine:
    """Builds nothing, or fails in the midst of it."""

    name = "docker"

    def __init__(self) -> None:
        self.on_build: Callable[[], None] = lambda: None
        self.drop_fails_with: EngineError | None = None

    def placements(self, type_: str) -> list[Placement]:
        return [Placement("one", None)]

    def ports(self, server: str) -> range:
        return range(8000, 8010)

    def plan(self, prefix: str, owner: Owner, type_: str, credentials_id: int, server: str) -> Spec:
        return Spec(credentials_id, type_, server, "user", f"{prefix}{credentials_id}")

    def build(self, spec: Spec, password: Secret, lease: Any, content: Any, report: Any) -> None:
        report("start", 60, "Starting the sandbox")
        self.on_build()

    def describe(self, spec: Spec, password: Secret) -> dict[str, Any]:
        return {"hostname": "sb", "port": spec.port, "user": "user", "password": password.reveal()}

    def exists(self, spec: Spec) -> bool:
        return True

    def revive(self, spec: Spec) -> None:
        """It runs."""

    def drop(self, spec: Spec, lease: Any) -> None:
        if self.drop_fails_with is not None:
            raise self.drop_fails_with

    def close(self) -> None:
        """It holds nothing open."""


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine()


@pytest.fixture
def installation(engine: StandInEngine, tmp_path: Path) -> Iterator[Installation]:
    environment = {
        "STATE_URL": f"sqlite:///{tmp_path}/state.db",
        "BROKER_URL": "redis://127.0.0.1:1/0",
        "ENCRYPTION_KEYS": generate_key().reveal(),
    }
    installation = Installation(config.load(environment))
    prepare_state(installation.database)
    installation.backends["docker"] = cast(Backend, engine)
    yield installation
    installation.close()


def request(installation: Installation) -> int:
    wanted = SandboxRequest("jupyter", script="the script")
    return request_sandbox(installation, OWNER, BACKENDS["docker"], wanted).id


def work_on(installation: Installation, job_id: int) -> None:
    """Run a step of the job now, without the pause that a failed one waits for."""
    with installation.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=0))
    assert run_job(installation, job_id, ["docker"]) is not None


def told(installation: Installation, job_id: int) -> list[str]:
    """Return the actions of the job's events, with their steps."""
    events = events_of_job(installation.database, job_id)
    return [f"{e.action} {(e.detail or {}).get('step', '')}".strip() for e in events]


def event_of(installation: Installation, job_id: int, action: str) -> Event:
    found = [e for e in events_of_job(installation.database, job_id) if e.action == action]
    assert len(found) == 1
    return found[0]


def test_a_creation_tells_its_steps_and_its_end(installation: Installation) -> None:
    job_id = request(installation)
    work_on(installation, job_id)
    assert told(installation, job_id) == [
        *STARTED, "job.step start", "credentials.created", "job.succeeded",
    ]  # fmt: skip
    created = event_of(installation, job_id, "credentials.created")
    assert created.credentials_id and created.run_id.startswith("17.")
    assert event_of(installation, job_id, "job.succeeded").credentials_id == created.credentials_id
    with installation.database.read() as session:
        progress = session.get_one(Job, job_id).progress
    assert [entry["step"] for entry in progress] == ["prepare", "start"]


def test_a_refused_creation_tells_what_was_undone(
    installation: Installation, engine: StandInEngine
) -> None:
    def refuse() -> None:
        raise EngineRefused("no space left")

    engine.on_build = refuse
    job_id = request(installation)
    work_on(installation, job_id)
    assert told(installation, job_id) == [
        *STARTED, "job.step start", "job.undoing", "credentials.dropped", "job.failed",
    ]  # fmt: skip
    failed = event_of(installation, job_id, "job.failed")
    assert failed.detail is not None and failed.failure == "no space left"
    assert (failed.detail["error"], failed.detail["message"]) == ("user", "no space left")


def test_a_delay_tells_callers_no_more_than_its_kind(
    installation: Installation, engine: StandInEngine
) -> None:
    def lose() -> None:
        raise EngineUnavailable("10.0.0.7:2375 does not answer")

    engine.on_build = lose
    job_id = request(installation)
    work_on(installation, job_id)
    delayed = event_of(installation, job_id, "job.delayed")
    assert delayed.detail == {"attempt": 1, "reason": "backend_unavailable"}
    assert delayed.failure == "10.0.0.7:2375 does not answer"
    engine.on_build = lambda: None
    work_on(installation, job_id)
    assert told(installation, job_id)[-6:] == [
        "job.delayed", "job.started", "job.step prepare", "job.step start",
        "credentials.created", "job.succeeded",
    ]  # fmt: skip


def test_a_killed_creation_tells_who_killed_it(
    installation: Installation, engine: StandInEngine
) -> None:
    job_id = request(installation)
    killer = Principal("9", "bob", "70", "Project")
    engine.on_build = lambda: (
        None if request_termination(installation.database, killer, str(job_id)) else None
    )
    work_on(installation, job_id)
    assert told(installation, job_id)[-4:] == [
        "job.kill_requested", "job.undoing", "credentials.dropped", "job.terminated",
    ]  # fmt: skip
    assert event_of(installation, job_id, "job.kill_requested").token_id == "9"
    assert event_of(installation, job_id, "job.terminated").token_id == "4"


def test_a_wait_for_the_slot_is_told_of_once(
    installation: Installation, engine: StandInEngine
) -> None:
    first = request(installation)

    def lose() -> None:
        raise EngineUnavailable("away")

    engine.on_build = lose
    work_on(installation, first)
    with installation.database.write() as session:
        # The first one's job is gone from the slot; its credential is still in the making.
        session.execute(update(Job).where(Job.id == first).values(slot="another"))
    second = request(installation)
    for _ in range(3):
        work_on(installation, second)
    assert told(installation, second) == [*STARTED, "job.delayed"]
    engine.on_build = lambda: None
    work_on(installation, first)
    work_on(installation, second)
    assert told(installation, second)[-2:] == ["job.step existing", "job.succeeded"]
    created = event_of(installation, first, "credentials.created")
    assert event_of(installation, second, "job.succeeded").credentials_id == created.credentials_id
