"""Claims due jobs for this process."""

import os
import socket
from dataclasses import dataclass
from itertools import count
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, bindparam, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from provisioning.installation import Installation
from provisioning.state.claims import Lease, take
from provisioning.state.database import now_ms
from provisioning.state.enums import UNFINISHED_JOBS, JobCommand, JobStatus
from provisioning.state.events import Action, record_job_event
from provisioning.state.failpoints import failpoint
from provisioning.state.models import Credentials, Job

#: Tries to take a place of a project's at the same moment as others.
PLACE_TRIES = 20


#: The failure of a job that looks several times a second whether its slot is free.
SLOT_BUSY = "slot_busy"


@dataclass(frozen=True)
class Claimed:
    """A job this process works on, and its credential, which kills leave unclaimed."""

    job: Job
    lease: Lease
    row: Credentials | None
    row_lease: Lease | None


class _NotDue(Exception):
    """The row does not want work now; the claim on it is rolled back."""


def claim_job(installation: Installation, job_id: int, *, yielding: bool = False) -> Claimed | None:
    """Claim a due job with what it changes; return None when it is not due.

    A job is due when it is unfinished, its pause is over, nobody works on it, no earlier job
    of its slot is unfinished, and its project has a place for it (contract 9.1.9). With
    ``yielding``, one that has not started is left to `scheduling` while another project waits.
    """
    for _ in range(PLACE_TRIES):
        try:
            return _claim(installation, job_id, yielding)
        except _NotDue:
            return None
        except IntegrityError:
            # Another job of the project took the place at the same moment.
            continue
    return None


def _claim(installation: Installation, job_id: int, yielding: bool) -> Claimed:
    seconds = installation.config.claim_seconds
    with installation.database.write() as session:
        lease = _take(session, Job, job_id, seconds)
        job = session.get_one(Job, job_id)
        now = _require_due(session, job, yielding)
        row = session.get(Credentials, job.credentials_id) if job.credentials_id else None
        row_lease = None
        if row is not None and job.command is not JobCommand.KILL:
            row_lease = _take(session, Credentials, row.id, seconds)
        begun = begun_columns(job.started_at or now, job.attempts)
        if job.status is JobStatus.WAITING:
            job.place = _free_place(session, job)
        else:
            del begun["status"]
        for name, value in begun.items():
            setattr(job, name, value)
        session.flush()
        if job.failure != SLOT_BUSY:
            record_job_event(session, Action.JOB_STARTED, job, detail={"attempt": job.attempts})
        failpoint(f"{job.command}.claiming")
        return Claimed(job, lease, row, row_lease)


def begun_columns(started_at: int, attempts: int = 0) -> dict[str, Any]:
    """Return the columns of a job that this process begins after so many attempts."""
    return {
        "status": JobStatus.PROCESSING,
        "started_at": started_at,
        "process_host": socket.gethostname()[:128],
        "process_pid": os.getpid(),
        "attempts": attempts + 1,
    }


def _take(
    session: Session, model: type[Job] | type[Credentials], row_id: int, seconds: int
) -> Lease:
    lease = take(session, model, row_id, seconds)
    if lease is None:
        raise _NotDue
    return lease


def _of_waiting(project: ColumnElement[str]) -> ScalarSelect[str]:
    return select(project).where(Job.status == JobStatus.WAITING).scalar_subquery()


#: The time, whether an earlier job of the slot is unfinished, and the first and the last of
#: the projects that wait: two looks at an index. Built once: every claim runs it.
_TURN = select(
    now_ms(),
    select(Job.id)
    .where(
        Job.slot == bindparam("slot"),
        Job.status.in_(UNFINISHED_JOBS),
        Job.id < bindparam("job"),
    )
    .exists(),
    _of_waiting(func.min(Job.project_id)),
    _of_waiting(func.max(Job.project_id)),
)


def _require_due(session: Session, job: Job, yielding: bool) -> int:
    """Return the database's time; raise ``_NotDue`` unless the job is due."""
    if job.status not in UNFINISHED_JOBS:
        raise _NotDue
    query = session.execute(_TURN, {"slot": job.slot, "job": job.id})
    now, blocked, *waiting = query.one()
    if job.not_before > now or blocked:
        raise _NotDue
    if yielding and job.status is JobStatus.WAITING and set(waiting) != {job.project_id}:
        raise _NotDue
    return int(now)


def _free_place(session: Session, job: Job) -> int | None:
    """Return a place among those that run in the project; raise ``_NotDue`` if all are taken.

    Two jobs that choose one at the same moment choose the same, and the unique key decides.
    """
    if job.parallel_limit is None:
        return None
    query = select(Job.place).where(Job.project_id == job.project_id, Job.place.is_not(None))
    taken = set(session.scalars(query))
    if len(taken) >= job.parallel_limit:
        raise _NotDue
    return next(place for place in count(1) if place not in taken)
