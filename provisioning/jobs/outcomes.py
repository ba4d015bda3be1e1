"""Jobs: the queue of record. A broker's message only says that a row may be due."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.access.tokens import Principal
from provisioning.backends.base import EngineUnavailable
from provisioning.configuration.config import Config
from provisioning.jobs.reading import find_job
from provisioning.state.claims import Lease, close_all
from provisioning.state.database import Database, now_ms, read_clock
from provisioning.state.enums import UNFINISHED_JOBS, CredentialsState, JobStatus
from provisioning.state.events import (
    ENDS,
    Action,
    job_event,
    record_credentials_event,
    record_events,
    record_job_event,
)
from provisioning.state.models import Credentials, Job

#: The ``errorNote`` of a job that ended because its server stayed away.
SERVER_DOWN = "backend_unavailable"


def new_exception_id() -> str:
    """Return an id that ties an error's answer to its log line (contract section 3)."""
    return f"provisioning-{uuid.uuid4().hex}"


# Ending ---------------------------------------------------------------------------------


def request_termination(database: Database, principal: Principal, job_id: str) -> Job:
    """Kill a job (contract 9.4): a waiting one never starts, a running one is told to stop.

    Raises ``JobNotFound`` and ``JobFinished``.
    """
    found = find_job(database, principal.project_id, job_id)
    with database.write() as session:
        query = select(Job).where(Job.id == found.id).with_for_update()
        job = session.scalars(query).one()
        if job.status not in UNFINISHED_JOBS:
            raise errors.JobFinished(job_id)
        if job.status is JobStatus.TERMINATING:
            return job
        job.terminated_by = {
            "id": principal.token_id,
            "description": principal.token_description,
        }
        if job.status is JobStatus.WAITING:
            job.status, job.request = JobStatus.CANCELLED, None
            job.ended_at = read_clock(session)
            _show_again(session, job, principal.token_id)
            record_job_event(session, Action.JOB_CANCELLED, job, token_id=principal.token_id)
        else:
            # A pause before the next try does not hold the end back.
            job.status, job.not_before = JobStatus.TERMINATING, 0
            record_job_event(session, Action.JOB_KILL_REQUESTED, job, token_id=principal.token_id)
        return job


def _show_again(session: Session, job: Job, author: str) -> None:
    """Make a credential visible again whose delete never started (contract 6.2.2)."""
    query = select(Credentials).where(
        Credentials.id == job.credentials_id, Credentials.job_id == job.id
    )
    row = session.scalars(query.with_for_update()).first()
    if row is not None:
        row.state, row.job_id = CredentialsState.ACTIVE, None
        record_restoration(session, row, job, author)


def record_restoration(session: Session, row: Credentials, job: Job, author: str) -> None:
    """Add the event of a credential whose delete job has not removed it."""
    record_credentials_event(
        session, Action.RESTORED, row, author=author, run_id=job.run_id, job_id=job.id
    )


def is_terminating(session: Session, job: Job) -> bool:
    """Return whether the job was killed; it cannot be any more in the caller's transaction."""
    query = select(Job.status).where(Job.id == job.id).with_for_update()
    return session.scalars(query).one() is JobStatus.TERMINATING


def close_job(session: Session, job: Job, lease: Lease, **values: Any) -> None:
    """Write the outcome of a job and forget its request; a killed one is ``terminated``."""
    query = select(Job.status, Job.error, Job.result, Job.failure).where(Job.id == job.id)
    # A creation that failed was given its outcome before it was cleaned up.
    decided = session.execute(query.with_for_update()).one()
    if decided.status is JobStatus.TERMINATING:
        values = terminated_values()
    lease.close(session, **ended_values(), **values)
    _record_end(session, job, {**decided._mapping, **values})


def close_successful(session: Session, jobs: Sequence[Job]) -> None:
    """Do what `close_job` does for jobs that ended well, and which the transaction has locked."""
    close_all(session, Job, [job.id for job in jobs], **ended_values(), **success())
    record_events(session, [job_event(Action.JOB_SUCCEEDED, job) for job in jobs])


def ended_values() -> dict[str, Any]:
    """Return the values of a job that is over, whatever its outcome."""
    return {"request": None, "place": None, "ended_at": now_ms()}


def _record_end(session: Session, job: Job, outcome: dict[str, Any]) -> None:
    action, detail, failure = ENDS[outcome["status"]], None, None
    if action is Action.JOB_FAILED:
        shown = {key: outcome["result"].get(key) for key in ("message", "exceptionId")}
        detail = {"error": outcome["error"], **shown}
        failure = outcome["failure"]
    record_job_event(session, action, job, detail=detail, failure=failure)


def record_delay(session: Session, job: Job, problem: Exception, failure: str) -> None:
    """Add the event of an attempt that failed; callers learn no more than whose fault it is."""
    reason = SERVER_DOWN if isinstance(problem, EngineUnavailable) else "internal"
    detail = {"attempt": job.attempts, "reason": reason}
    record_job_event(session, Action.JOB_DELAYED, job, detail=detail, failure=failure)


def is_spent(session: Session, job: Job, config: Config) -> bool:
    """Return whether the job has been tried for as long, or as often, as it may be.

    The time that it waited for its turn does not count.
    """
    if job.attempts >= config.job_attempts:
        return True
    began, seconds = job.started_at or job.created_at, config.job_retry_seconds
    return bool(session.execute(select(now_ms() - began > seconds * 1000)).scalar_one())


def success(**result: Any) -> dict[str, Any]:
    """Return the values that end a job well."""
    return {
        "status": JobStatus.SUCCESS,
        "result": {"status": "ok", **result},
        "error": None,
        "failure": None,
    }


def terminated_values() -> dict[str, Any]:
    """Return the values that end a killed job (contract 9.4.2)."""
    return {
        "status": JobStatus.TERMINATED,
        "result": {"message": "Job has been terminated"},
        "error": None,
    }


def user_error(message: str, failure: str) -> dict[str, Any]:
    """Return the values of a job that failed for a reason its caller can read."""
    return {
        "error": "user",
        "result": {"message": message, "exceptionId": new_exception_id(), "context": {}},
        "failure": failure,
    }


def internal_error(problem: Exception, failure: str) -> dict[str, Any]:
    """Return the values of a job that failed by an internal error (contract 9.1.4)."""
    return {
        "error": "application",
        "error_note": SERVER_DOWN if isinstance(problem, EngineUnavailable) else None,
        "result": {
            "message": "Internal error occurred, please contact support",
            "exceptionId": new_exception_id(),
        },
        "failure": failure,
    }
