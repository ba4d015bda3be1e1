"""The jobs that wait: how many may, and where one of them stands."""

from dataclasses import dataclass

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.configuration.catalog import sharing_workers
from provisioning.installation import Installation
from provisioning.state.database import Database, now_ms, read_clock
from provisioning.state.enums import STARTED_JOBS, JobStatus
from provisioning.state.models import Job

#: Jobs that ended last, of all backends, among which the usual duration is looked for.
RECENT_JOBS = 200


def require_queue_space(installation: Installation, project_id: str) -> None:
    """Raise ``QueueFull`` if a project, or all together, has as many waiting jobs as may be.

    It is asked before anything is recorded, and a few that ask at once may all come in.
    """
    waiting = select(Job.id).where(Job.status == JobStatus.WAITING)
    config = installation.config
    limits = (
        (
            "WAITING_JOBS_PER_PROJECT",
            config.waiting_jobs_per_project,
            waiting.where(Job.project_id == project_id),
        ),
        ("WAITING_JOBS", config.waiting_jobs, waiting),
    )
    with installation.database.read() as session:
        for name, limit, query in limits:
            if limit and session.scalars(query.offset(limit - 1).limit(1)).first() is not None:
                raise errors.QueueFull(cause=f"project {project_id} meets {name}, {limit}")


@dataclass(frozen=True)
class QueuePosition:
    """Where a waiting job stands, as far as one can tell: others may come and go."""

    #: 1 is next.
    position: int
    #: Milliseconds since 1970; None while nobody works, or nothing has ended lately.
    expected_start: int | None


def find_queue_position(database: Database, job: Job) -> QueuePosition:
    """Return where a waiting job stands among those that the same workers take."""
    with database.read() as session:
        position = _position(session, job)
        duration, at_work = _usual_duration(session, job.backend), _at_work(session, job.backend)
        if duration is None or not at_work:
            return QueuePosition(position, None)
        return QueuePosition(position, read_clock(session) + round(duration * position / at_work))


def _position(session: Session, job: Job) -> int:
    """Count the jobs before it: projects take turns, the one whose first job is older first."""
    query = (
        select(
            Job.project_id,
            func.count().label("waiting"),
            func.min(Job.id).label("oldest"),
            func.count(case((Job.id < job.id, 1))).label("before"),
        )
        .where(Job.status == JobStatus.WAITING, Job.backend.in_(sharing_workers(job.backend)))
        .group_by(Job.project_id)
    )
    projects = {row.project_id: row for row in session.execute(query)}
    own = projects.pop(job.project_id, None)
    if own is None:
        return 1
    others = sum(
        min(other.waiting, own.before + (1 if other.oldest < own.oldest else 0))
        for other in projects.values()
    )
    return 1 + int(own.before) + int(others)


def _usual_duration(session: Session, backend: str) -> float | None:
    recent = (
        select(Job.backend, Job.status, (Job.ended_at - Job.started_at).label("duration"))
        .where(Job.ended_at.is_not(None))
        .order_by(Job.ended_at.desc())
        .limit(RECENT_JOBS)
        .subquery()
    )
    query = select(func.avg(recent.c.duration)).where(
        recent.c.backend == backend, recent.c.status == JobStatus.SUCCESS
    )
    average = session.execute(query).scalar_one()
    return None if average is None else float(average)


def _at_work(session: Session, backend: str) -> int:
    query = select(func.count(Job.id)).where(
        Job.status.in_(STARTED_JOBS),
        Job.backend.in_(sharing_workers(backend)),
        Job.claim_until > now_ms(),
    )
    return session.execute(query).scalar_one()
