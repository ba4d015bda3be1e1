"""Jobs: the queue of record. A broker's message only says that a row may be due."""

import os
import socket
import time
import uuid
from collections.abc import Sequence as SequenceOf
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.backends.base import EngineUnavailable
from provisioning.claims import Lease, take
from provisioning.database import Database, next_numbers, now_ms, read_clock
from provisioning.failpoints import failpoint
from provisioning.identifiers import read_id
from provisioning.installation import Installation
from provisioning.models import Credentials, Job
from provisioning.states import UNFINISHED_JOBS, JobCommand, JobStatus
from provisioning.tokens import Caller, Principal

COMPONENT = "keboola-provisioning-bundle"
#: Pause between two looks at a job somebody waits for, in seconds: it starts here and grows.
FIRST_PAUSE, LONGEST_PAUSE = 0.004, 0.25


#: The ``errorNote`` of a job that ended because its server stayed away.
SERVER_DOWN = "backend_unavailable"


def new_exception_id() -> str:
    """Return an id that ties an error's answer to its log line (contract section 3)."""
    return f"provisioning-{uuid.uuid4().hex}"


# Recording ------------------------------------------------------------------------------


def take_numbers(installation: Installation, caller: Caller) -> tuple[int, int] | None:
    """Return the job id and the run id ticket of a new job (contract 9.2).

    They come from the Storage API; None without one, where `record_job` takes them from the
    local sequence. Raises ``TokenServiceUnavailable`` before anything is recorded.
    """
    if installation.storage is None:
        return None
    job_id = installation.storage.create_ticket(caller.token, caller.run_id)
    return job_id, installation.storage.create_ticket(caller.token, caller.run_id)


def record_job(
    session: Session,
    command: JobCommand,
    row: Credentials,
    *,
    owner: Principal | None = None,
    run_id: str = "",
    numbers: tuple[int, int] | None = None,
) -> Job:
    """Add a waiting job on a credential, in the caller's transaction.

    ``owner`` is the caller's principal; without one the job is the service's own and runs
    under the owner of the credential (contract 11.3). Raises ``TokenServiceUnavailable``
    when a job has the number already.
    """
    job_id, ticket = numbers or next_numbers(session, "ticket", 2)
    job = Job(
        id=job_id,
        run_id=f"{run_id}.{ticket}" if run_id else str(ticket),
        command=command,
        status=JobStatus.WAITING,
        params={"backend": row.backend, "id": str(row.id)},
        result={},
        credentials_id=row.id,
        slot=slot_of(row.token_id, row.backend, row.type),
        project_id=row.project_id,
        project_name=owner.project_name if owner else row.project_name,
        token_id=owner.token_id if owner else row.token_id,
        token_description=owner.token_description if owner else row.token_description,
        created_at=read_clock(session),
    )
    session.add(job)
    try:
        session.flush()
    except IntegrityError:
        # The ticket service gave a number a second time: it is not to be relied on now.
        raise errors.TokenServiceUnavailable from None
    return job


def slot_of(token_id: str, backend: str, type_: str) -> str:
    """Return the key that has at most one live credential and one running job."""
    return f"{token_id}:{backend}:{type_}"


# Reading --------------------------------------------------------------------------------


def find_job(database: Database, project_id: str, job_id: str) -> Job:
    """Return a job of the project; raise ``JobNotFound`` (contract 4.2, 9.1.6)."""
    number = read_id(job_id)
    if number is None:
        raise errors.JobNotFound(job_id)
    with database.read() as session:
        job = session.get(Job, number)
    if job is None or job.project_id != project_id:
        raise errors.JobNotFound(job_id)
    return job


def wait_for_job(database: Database, job: Job, seconds: float) -> Job:
    """Return the job once it is finished, or as it is after ``seconds``.

    The state database is asked, with growing pauses: it alone decides, whatever the broker
    has lost.
    """
    end, pause = time.monotonic() + seconds, FIRST_PAUSE
    while job.status in UNFINISHED_JOBS:
        left = end - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(pause, left))
        pause = min(pause * 1.2, LONGEST_PAUSE)
        with database.read() as session:
            job = session.get_one(Job, job.id)
    return job


# Running --------------------------------------------------------------------------------


class _NotDue(Exception):
    """The row does not want work now; the claim on it is rolled back."""


def claim_job(
    installation: Installation, job_id: int
) -> tuple[Job, Credentials, list[Lease]] | None:
    """Claim a due job, and for a delete its credential too; return None when it is not due.

    A job is due when it is unfinished, its pause is over, nobody works on it, and no earlier
    job of its slot is unfinished (contract 9.1.9).
    """
    seconds = installation.config["CLAIM_SECONDS"]
    try:
        with installation.database.write() as session:
            leases = [_take(session, Job, job_id, seconds)]
            job = session.get_one(Job, job_id)
            _require_due(session, job)
            row = session.get_one(Credentials, job.credentials_id)
            if job.command is JobCommand.DELETE:
                leases.append(_take(session, Credentials, row.id, seconds))
            job.status = JobStatus.PROCESSING
            job.started_at = job.started_at or read_clock(session)
            job.process_host, job.process_pid = socket.gethostname()[:128], os.getpid()
            job.attempts += 1
            failpoint(f"{job.command}.claiming")
            return job, row, leases
    except _NotDue:
        return None


def _take(
    session: Session, model: type[Job] | type[Credentials], row_id: int, seconds: int
) -> Lease:
    lease = take(session, model, row_id, seconds)
    if lease is None:
        raise _NotDue
    return lease


def _require_due(session: Session, job: Job) -> None:
    if job.status not in (JobStatus.WAITING, JobStatus.PROCESSING):
        raise _NotDue
    earlier = select(Job.id).where(
        Job.slot == job.slot, Job.status.in_(UNFINISHED_JOBS), Job.id < job.id
    )
    if job.not_before > read_clock(session) or session.scalars(earlier.limit(1)).first():
        raise _NotDue


def next_in_slot(database: Database, job: Job) -> int | None:
    """Return the job that waited for this one, if any."""
    query = select(Job.id).where(Job.slot == job.slot, Job.status.in_(UNFINISHED_JOBS))
    with database.read() as session:
        return session.scalars(query.order_by(Job.id).limit(1)).first()


def due_jobs(session: Session, limit: int) -> SequenceOf[int]:
    """Return unfinished jobs nobody works on: their message was lost, or their worker."""
    query = (
        select(Job.id)
        .where(
            Job.status.in_((JobStatus.WAITING, JobStatus.PROCESSING)),
            or_(Job.claim_until.is_(None), Job.claim_until <= now_ms()),
            Job.not_before <= now_ms(),
        )
        .order_by(Job.id)
        .limit(limit)
    )
    return session.scalars(query).all()


def success() -> dict[str, Any]:
    """Return the values that end a job well."""
    return {
        "status": JobStatus.SUCCESS,
        "result": {"status": "ok"},
        "ended_at": now_ms(),
        "failure": None,
    }


def internal_error(problem: Exception, failure: str, exception_id: str) -> dict[str, Any]:
    """Return the values that end a job in an internal error (contract 9.1.4)."""
    return {
        "status": JobStatus.ERROR,
        "error": "application",
        "error_note": SERVER_DOWN if isinstance(problem, EngineUnavailable) else None,
        "result": {
            "message": "Internal error occurred, please contact support",
            "exceptionId": exception_id,
        },
        "ended_at": now_ms(),
        "failure": failure,
    }
