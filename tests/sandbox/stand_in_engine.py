"""An engine that builds nothing, for what goes on around it; no real one."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import update

from provisioning.backends.base import EngineError, Owner, Placement, ServerObject, Spec
from provisioning.background.job_runner import run_job
from provisioning.configuration.secrets import Secret
from provisioning.installation import Installation
from provisioning.state.models import Job


class StandInEngine:
    """Builds nothing, or fails in the midst of it."""

    name = "docker"

    def __init__(self) -> None:
        self.on_build: Callable[[], None] = lambda: None
        self.drop_fails_with: EngineError | None = None
        #: What goes on in every sandbox, or why it cannot be asked.
        self.goes_on: dict[str, Any] | EngineError = {"connections": 0, "busyKernels": None}
        #: The notes in sandboxes, by their credentials.
        self.notes: dict[int, str] = {}

    def servers(self) -> list[str]:
        return ["one"]

    def inventory(self, prefix: str, server: str) -> list[ServerObject]:
        return []

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

    def activity(self, spec: Spec) -> dict[str, Any]:
        if isinstance(self.goes_on, EngineError):
            raise self.goes_on
        return self.goes_on

    def leave_note(self, spec: Spec, text: str, lease: Any) -> None:
        if isinstance(self.goes_on, EngineError):
            raise self.goes_on
        self.notes[spec.credentials_id] = text

    def prolong(self, spec: Spec) -> None:
        """It ends no passwords."""

    def drop(self, spec: Spec, lease: Any, access_ended: object = None) -> None:
        if self.drop_fails_with is not None:
            raise self.drop_fails_with

    def close(self) -> None:
        """It holds nothing open."""


def work_on(installation: Installation, job_id: int) -> None:
    """Run a step of the job now, without the pause that a failed one waits for."""
    with installation.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=0))
    assert run_job(installation, job_id, ["docker"]) is not None
