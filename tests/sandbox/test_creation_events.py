"""What the events of a creation tell, whichever way it goes; the engine is a stand-in."""

from sqlalchemy import update

from provisioning.access.tokens import Caller, Principal
from provisioning.backends.base import EngineRefused, EngineUnavailable
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.secrets import Secret
from provisioning.installation import Installation
from provisioning.jobs.outcomes import request_termination
from provisioning.sandbox.orders import request_sandbox
from provisioning.sandbox.request import SandboxRequest
from provisioning.state.events import events_of_job
from provisioning.state.models import Event, Job
from tests.sandbox.stand_in_engine import StandInEngine, work_on

OWNER = Caller(Principal("4", "ada", "70", "Project"), Secret("its token"), "17")
STARTED = ["job.accepted", "job.started", "job.step prepare"]


def request(installation: Installation) -> int:
    wanted = SandboxRequest("jupyter", script="the script")
    job, _ = request_sandbox(installation, OWNER, BACKENDS["docker"], wanted)
    return job.id


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
