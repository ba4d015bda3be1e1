"""What operators see of the queue, and do to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select, update

from provisioning import errors
from provisioning.database import Database, now_ms
from provisioning.events import Action, record_job_event
from provisioning.jobs import request_termination
from provisioning.manage_tokens import local_operator
from provisioning.models import Credentials, Job
from provisioning.states import CredentialsState
from provisioning.tokens import Principal
from provisioning.turns import STARTED_JOBS

UNFINISHED_CREDENTIALS = (CredentialsState.CREATING, CredentialsState.DROPPING)


def list_jobs(database: Database, limit: int, **wanted: str | None) -> Sequence[Job]:
    """Return the newest jobs whose columns have the values that are given."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    for column, value in wanted.items():
        if value is not None:
            query = query.where(getattr(Job, column) == value)
    with database.read() as session:
        return session.scalars(query).all()


def count_credentials(database: Database) -> dict[tuple[str, str], int]:
    """Return the number of credentials that are not gone, by backend and server."""
    query = (
        select(Credentials.backend, Credentials.server, func.count())
        .where(Credentials.state != CredentialsState.DROPPED)
        .group_by(Credentials.backend, Credentials.server)
    )
    with database.read() as session:
        return {(row[0], row[1]): row[2] for row in session.execute(query)}


def get_job(database: Database, job_id: int) -> Job:
    """Return a job of any project; raise ``JobNotFound``."""
    with database.read() as session:
        job = session.get(Job, job_id)
    if job is None:
        raise errors.JobNotFound(str(job_id))
    return job


def kill_job(database: Database, job_id: int) -> Job:
    """Kill a job as its owner could; raise ``JobNotFound`` and ``JobFinished``."""
    job = get_job(database, job_id)
    author = local_operator().author
    operator = Principal(author, author, job.project_id, job.project_name)
    return request_termination(database, operator, str(job_id))


def retry_job(database: Database, job_id: int) -> bool:
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
            author = local_operator().author
            record_job_event(session, Action.JOB_RETRY_REQUESTED, job, token_id=author)
    return any(changed)


@dataclass
class Holder:
    """A process with claims, as ``host:pid``."""

    name: str
    #: Milliseconds until the last of its claims runs out.
    left: int = 0
    jobs: list[int] = field(default_factory=list)
    credentials: list[int] = field(default_factory=list)


def find_holders(database: Database) -> list[Holder]:
    """Return the processes that hold claims now, and what they work on."""
    found: dict[str, Holder] = {}
    jobs = select(Job.claim_owner, Job.id, Job.claim_until - now_ms()).where(
        Job.status.in_(STARTED_JOBS), Job.claim_until > now_ms()
    )
    credentials = select(
        Credentials.claim_owner, Credentials.id, Credentials.claim_until - now_ms()
    ).where(Credentials.state.in_(UNFINISHED_CREDENTIALS), Credentials.claim_until > now_ms())
    with database.read() as session:
        for query, kind in ((jobs, "jobs"), (credentials, "credentials")):
            for name, number, left in session.execute(query.order_by("id")):
                holder = found.setdefault(name or "", Holder(name or ""))
                holder.left = max(holder.left, left or 0)
                getattr(holder, kind).append(number)
    return [found[name] for name in sorted(found)]
