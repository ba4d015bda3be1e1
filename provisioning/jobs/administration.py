"""What operators see of the queue, and do to it."""

from dataclasses import dataclass, field

from sqlalchemy import select, update

from provisioning.access.management_tokens import Operator
from provisioning.access.tokens import Principal
from provisioning.jobs.outcomes import request_termination
from provisioning.jobs.reading import get_job
from provisioning.state.database import Database, now_ms
from provisioning.state.enums import STARTED_JOBS, UNFINISHED_CREDENTIALS, CredentialsState
from provisioning.state.events import Action, record_job_event
from provisioning.state.models import Credentials, Job


def kill_job(database: Database, operator: Operator, job_id: int) -> Job:
    """Kill a job as its owner could; raise ``JobNotFound`` and ``JobFinished``."""
    job = get_job(database, job_id)
    author = operator.author
    owner = Principal(author, author, job.project_id, job.project_name)
    return request_termination(database, owner, str(job_id))


def retry_job(database: Database, operator: Operator, job_id: int) -> bool:
    """End the pause of a job, or of the removal it has left behind; return if there was one.

    The next sweep wakes a worker for it.
    """
    job = get_job(database, job_id)
    paused = Job.claim_until.is_(None) & (Job.not_before > now_ms()) & Job.ended_at.is_(None)
    # Nobody is in charge of what a job left behind but the sweep.
    left = Credentials.job_id.is_(None) & (Credentials.not_before > now_ms())
    statements = (
        update(Job).where(Job.id == job.id, paused),
        update(Credentials).where(
            Credentials.id == job.credentials_id,
            Credentials.state == CredentialsState.DROPPING,
            left,
        ),
    )
    with database.write() as session:
        changed = [
            session.connection().execute(statement.values(not_before=0)).rowcount
            for statement in statements
        ]
        if any(changed):
            record_job_event(session, Action.JOB_RETRY_REQUESTED, job, token_id=operator.author)
    return any(changed)


@dataclass
class ClaimHolder:
    """A process with claims, as ``host:pid``."""

    name: str
    #: Milliseconds until the last of its claims runs out.
    left: int = 0
    jobs: list[int] = field(default_factory=list)
    credentials: list[int] = field(default_factory=list)


def find_holders(database: Database) -> list[ClaimHolder]:
    """Return the processes that hold claims now, and what they work on."""
    found: dict[str, ClaimHolder] = {}
    jobs = select(Job.claim_owner, Job.id, Job.claim_until - now_ms()).where(
        Job.status.in_(STARTED_JOBS), Job.claim_until > now_ms()
    )
    credentials = select(
        Credentials.claim_owner, Credentials.id, Credentials.claim_until - now_ms()
    ).where(Credentials.state.in_(UNFINISHED_CREDENTIALS), Credentials.claim_until > now_ms())
    with database.read() as session:
        for query, kind in ((jobs, "jobs"), (credentials, "credentials")):
            for name, number, left in session.execute(query.order_by("id")):
                holder = found.setdefault(name or "", ClaimHolder(name or ""))
                holder.left = max(holder.left, left or 0)
                getattr(holder, kind).append(number)
    return [found[name] for name in sorted(found)]
