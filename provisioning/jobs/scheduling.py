"""Whose turn it is: which of the due jobs a free worker takes.

A message wakes a worker for one job, but is a ticket for any: brokers deliver in the order of
sending, and a project that sends a thousand jobs would keep all others waiting. While several
projects wait, the one with the fewest jobs at work is next, and among equals the one that was
served longest ago.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.orm import Session, aliased

from provisioning.installation import Installation
from provisioning.jobs.claiming import Claimed, claim_job
from provisioning.state.conditions import is_unclaimed
from provisioning.state.database import Database, now_ms
from provisioning.state.enums import STARTED_JOBS, UNFINISHED_JOBS, JobStatus
from provisioning.state.models import Job

#: Jobs that one message tries to claim before it is given up: others were faster each time.
TRIES = 20


def claim_next(
    installation: Installation, job_id: int, backends: Collection[str]
) -> Claimed | None:
    """Claim the job a message named, or the due one of these backends whose turn it is.

    Return None when nothing is due.
    """
    claimed = claim_job(installation, job_id, yielding=True)
    tried: list[int] = []
    while claimed is None and len(tried) < TRIES:
        chosen = next_job(installation.database, backends, tried)
        if chosen is None:
            return None
        tried.append(chosen)
        claimed = claim_job(installation, chosen)
    return claimed


def next_job(
    database: Database, backends: Collection[str], but: Collection[int] = ()
) -> int | None:
    """Return the due job of these backends whose turn it is, leaving out those of ``but``."""
    wanted = {"backends": list(backends), "but": list(but)}
    with database.read() as session:
        found = [session.execute(query, wanted).first() for query in (_NEXT_NEW, _NEXT_BEGUN)]
    # Its project's jobs at work, when that was served last, and its id.
    candidates = [(row.running, row.served or 0, row.id) for row in found if row is not None]
    return min(candidates)[-1] if candidates else None


def _due() -> ColumnElement[bool]:
    return and_(
        Job.backend.in_(bindparam("backends", expanding=True)),
        Job.id.not_in(bindparam("but", expanding=True)),
        Job.not_before <= now_ms(),
    )


def _share(project_id: Any) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Return how many of a project's jobs are at work, and when one was taken up last."""
    running, served = aliased(Job), aliased(Job)
    at_work = select(func.count(running.id)).where(
        running.status.in_(STARTED_JOBS),
        running.project_id == project_id,
        running.claim_until > now_ms(),
    )
    last = (
        select(served.started_at)
        .where(served.project_id == project_id, served.started_at.is_not(None))
        .order_by(served.started_at.desc())
        .limit(1)
    )
    return at_work.scalar_subquery().label("running"), last.scalar_subquery().label("served")


def _next_new() -> Select[int, int, int]:
    """Return the query of the waiting job whose turn it is, by each project's oldest."""
    waiting, earlier, limited = aliased(Job), aliased(Job), aliased(Job)
    projects = (
        select(waiting.project_id.label("id"))
        .where(waiting.status == JobStatus.WAITING)
        .distinct()
        .subquery()
    )
    blocked = exists().where(
        earlier.slot == Job.slot, earlier.status.in_(UNFINISHED_JOBS), earlier.id < Job.id
    )
    # Only begun jobs have a place: a project may have millions that ended.
    places = select(func.count(limited.place)).where(
        limited.project_id == Job.project_id, limited.status.in_(STARTED_JOBS)
    )
    oldest = (
        select(Job.id)
        .where(Job.status == JobStatus.WAITING, Job.project_id == projects.c.id, _due(), ~blocked)
        .where(or_(Job.parallel_limit.is_(None), Job.parallel_limit > places.scalar_subquery()))
        .order_by(Job.id)
        .limit(1)
    )
    for dialect in ("mysql", "mariadb"):
        # They would read the whole table in the order of ids until they come across one.
        oldest = oldest.with_hint(Job, "FORCE INDEX (ix_jobs_turns)", dialect)
    candidates = (
        select(oldest.scalar_subquery().label("id"), *_share(projects.c.id))
        .select_from(projects)
        .subquery()
    )
    return (
        select(candidates)
        .where(candidates.c.id.is_not(None))
        .order_by(candidates.c.running, func.coalesce(candidates.c.served, 0), candidates.c.id)
        .limit(1)
    )


def _next_begun() -> Select[int, int, int]:
    """Return the query of the begun job that waits longest since its pause, or its worker, ended.

    These have their place already.
    """
    return (
        select(Job.id, *_share(Job.project_id))
        .where(Job.status.in_(STARTED_JOBS), _due())
        .where(is_unclaimed(Job))
        .order_by(Job.not_before, Job.id)
        .limit(1)
    )


#: Built once: a busy service runs them for every job.
_NEXT_NEW, _NEXT_BEGUN = _next_new(), _next_begun()


# Waking ---------------------------------------------------------------------------------


def next_after(database: Database, job: Job) -> tuple[int, str] | None:
    """Return id and backend of a job that may have waited for the end of this one, if any.

    Its own message came too early, and is gone.
    """
    of_slot = select(Job.id, Job.backend).where(
        Job.slot == job.slot, Job.status.in_(UNFINISHED_JOBS)
    )
    of_project = select(Job.id, Job.backend).where(
        Job.status == JobStatus.WAITING, Job.project_id == job.project_id, Job.id != job.id
    )
    with database.read() as session:
        found = session.execute(of_slot.order_by(Job.id).limit(1)).first()
        if (found is None or found.id == job.id) and job.parallel_limit is not None:
            found = session.execute(of_project.order_by(Job.id).limit(1)).first()
    return (found.id, found.backend) if found is not None and found.id != job.id else None


def due_jobs(session: Session, backends: Collection[str], limit: int) -> list[tuple[int, str]]:
    """Return id and backend of some unfinished jobs of these backends that nobody works on.

    Their message was lost, or their worker, or still waits. Any will do: whose turn it is, the
    worker finds out.
    """
    query = (
        select(Job.id, Job.backend)
        .where(
            # In an index where the unfinished ones stand apart, whatever a planner believes.
            Job.ended_at.is_(None),
            Job.status.in_(UNFINISHED_JOBS),
            Job.backend.in_(backends),
            is_unclaimed(Job),
            Job.not_before <= now_ms(),
        )
        .limit(limit)
    )
    return [(row.id, row.backend) for row in session.execute(query)]
