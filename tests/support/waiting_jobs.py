"""A queue of jobs in a state database, for tests of who takes which."""

from itertools import count

from sqlalchemy import delete, update

from provisioning.configuration import config
from provisioning.configuration.secrets import generate_key
from provisioning.installation import build_installation
from provisioning.jobs.claiming import Claimed
from provisioning.jobs.outcomes import close_job, success
from provisioning.jobs.scheduling import claim_next
from provisioning.state.enums import JobCommand, JobStatus
from provisioning.state.models import Callback, Credentials, Event, Job, Notice, RequestKey

MYSQL, BOTH = ["mysql"], ["docker", "mysql"]
_numbers = count(1)


class Queue:
    """The jobs of a state database, without anybody who works on them."""

    def __init__(self, state_url: str) -> None:
        settings = {
            "STATE_URL": state_url,
            "BROKER_URL": "redis://127.0.0.1:1/0",
            "ENCRYPTION_KEYS": generate_key().reveal(),
        }
        self.installation = build_installation(config.load(settings))

    def clear(self) -> None:
        """Forget what earlier tests left; which ones came before is not promised."""
        with self.installation.database.write() as session:
            for model in (Job, Credentials, Callback, Notice, Event, RequestKey):
                session.execute(delete(model))

    def add(
        self,
        project: str,
        amount: int = 1,
        *,
        backend: str = "mysql",
        slot: str | None = None,
        limit: int | None = None,
    ) -> list[int]:
        """Add waiting jobs, each of a slot of its own if none is named."""
        numbers = [next(_numbers) for _ in range(amount)]
        with self.installation.database.write() as session:
            session.add_all(
                Job(
                    id=number,
                    run_id=str(number),
                    command=JobCommand.KILL,
                    status=JobStatus.WAITING,
                    backend=backend,
                    params={},
                    result={},
                    slot=slot or f"{number}:{backend}:sandbox",
                    project_id=project,
                    project_name=project,
                    token_id="1",
                    token_description="",
                    created_at=1,
                    parallel_limit=limit,
                )
                for number in numbers
            )
        return numbers

    def change(self, number: int, **values: object) -> None:
        with self.installation.database.write() as session:
            session.execute(update(Job).where(Job.id == number).values(**values))

    def claim(self, number: int, backends: list[str] = MYSQL) -> Claimed | None:
        """Act on a message that names the job."""
        return claim_next(self.installation, number, backends)

    def take(self, number: int, backends: list[str] = MYSQL) -> int | None:
        claimed = self.claim(number, backends)
        return claimed.job.id if claimed else None

    def end(self, claimed: Claimed) -> None:
        with self.installation.database.write() as session:
            close_job(session, claimed.job, claimed.lease, **success())
