"""Jobs: the queue of record. A broker's message only says that a row may be due."""

import os
import socket
import time
import uuid
from dataclasses import dataclass
from itertools import count
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, bindparam, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.backends.base import EngineUnavailable
from provisioning.claims import Lease, take
from provisioning.config import Config
from provisioning.database import Database, next_numbers, now_ms, read_clock
from provisioning.events import ENDS, Action, record_credentials_event, record_job_event
from provisioning.failpoints import failpoint
from provisioning.identifiers import read_id
from provisioning.installation import Installation
from provisioning.models import Credentials, Job
from provisioning.states import UNFINISHED_JOBS, CredentialsState, JobCommand, JobStatus
from provisioning.tokens import Caller, Principal

COMPONENT = "keboola-provisioning-bundle"
#: The project's limit of jobs that run at once.
PARALLEL_LIMIT = "components.jobsParallelism"
#: Pause between two looks at a job somebody waits for, in seconds: it starts here and grows. The
#: end is seen late by half a pause: with this growth some 5 % of the job's own time.
FIRST_PAUSE, LONGEST_PAUSE, PAUSE_GROWTH = 0.004, 0.25, 1.1
#: Tries to take a place of a project's at the same moment as others.
PLACE_TRIES = 20
#: The ``errorNote`` of a job that ended because its server stayed away.
SERVER_DOWN = "backend_unavailable"
#: The failure of a job that looks several times a second whether its slot is free.
SLOT_BUSY = "slot_busy"


def new_exception_id() -> str:
    """Return an id that ties an error's answer to its log line (contract section 3)."""
    return f"provisioning-{uuid.uuid4().hex}"


# Recording ------------------------------------------------------------------------------


def take_numbers(installation: Installation, caller: Caller) -> tuple[int, int] | None:
    """Return the job id and the run id ticket of a new job (contract 9.2).

    They come from the Storage API; None without one, or where an operator without a token acts:
    then `record_job` takes them from the local sequence. Raises ``TokenServiceUnavailable``
    before anything is recorded.
    """
    if installation.storage is None or caller.operator is not None:
        return None
    job_id = installation.storage.create_ticket(caller.token, caller.run_id)
    return job_id, installation.storage.create_ticket(caller.token, caller.run_id)


def record_job(
    session: Session,
    command: JobCommand,
    row: Credentials,
    *,
    owner: Principal | None = None,
    author: str | None = None,
    run_id: str = "",
    numbers: tuple[int, int] | None = None,
    parallel_limit: int | None = None,
) -> Job:
    """Add a waiting job on a credential, in the caller's transaction.

    ``owner`` is the caller's principal; without one the job is the service's own and runs
    under the owner of the credential (contract 11.3); it takes no place of the project's.
    ``author`` is who asked for it, if not the owner.
    Raises ``TokenServiceUnavailable`` when a job has the number already.
    """
    return _record(
        session,
        owner or row,
        run_id,
        numbers,
        author,
        command=command,
        backend=row.backend,
        params={"backend": row.backend, "id": str(row.id)},
        parallel_limit=parallel_limit,
        credentials_id=row.id,
        slot=slot_of(row.token_id, row.backend, row.type),
    )


def record_creation(
    session: Session,
    caller: Caller,
    numbers: tuple[int, int] | None,
    *,
    backend: str,
    slot: str,
    params: dict[str, Any],
    request: str,
    parallel_limit: int | None = None,
) -> Job:
    """Add a waiting job that creates, in the caller's transaction.

    ``request`` is encrypted. Raises ``TokenServiceUnavailable`` as `record_job` does.
    """
    return _record(
        session,
        caller.principal,
        caller.run_id,
        numbers,
        command=JobCommand.CREATE,
        backend=backend,
        params=params,
        request=request,
        slot=slot,
        parallel_limit=parallel_limit,
    )


def _record(
    session: Session,
    owner: Principal | Credentials,
    run_id: str,
    numbers: tuple[int, int] | None,
    author: str | None = None,
    **values: Any,
) -> Job:
    job_id, ticket = numbers or next_numbers(session, "ticket", 2)
    job = Job(
        id=job_id,
        run_id=f"{run_id}.{ticket}" if run_id else str(ticket),
        status=JobStatus.WAITING,
        result={},
        project_id=owner.project_id,
        project_name=owner.project_name,
        token_id=owner.token_id,
        token_description=owner.token_description,
        created_at=read_clock(session),
        **values,
    )
    session.add(job)
    try:
        session.flush()
    except IntegrityError:
        # The ticket service gave a number a second time: it is not to be relied on now.
        raise errors.TokenServiceUnavailable from None
    record_job_event(session, Action.JOB_ACCEPTED, job, token_id=author)
    return job


def parallel_limit_of(config: Config, principal: Principal) -> int | None:
    """Return how many jobs of the caller's project may run at once (contract 9.1.9)."""
    limit: int = config["PROJECT_PARALLEL_JOBS"]
    return principal.limits.get(PARALLEL_LIMIT, limit) or None


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
        pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE)
        with database.read() as session:
            job = session.get_one(Job, job.id)
    return job


# Claiming -------------------------------------------------------------------------------


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
    ``yielding``, one that has not started is left to `turns` while another project waits.
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
    seconds = installation.config["CLAIM_SECONDS"]
    with installation.database.write() as session:
        lease = _take(session, Job, job_id, seconds)
        job = session.get_one(Job, job_id)
        now = _require_due(session, job, yielding)
        row = session.get(Credentials, job.credentials_id) if job.credentials_id else None
        row_lease = None
        if row is not None and job.command is not JobCommand.KILL:
            row_lease = _take(session, Credentials, row.id, seconds)
        if job.status is JobStatus.WAITING:
            job.status, job.place = JobStatus.PROCESSING, _free_place(session, job)
        job.started_at = job.started_at or now
        job.process_host, job.process_pid = socket.gethostname()[:128], os.getpid()
        job.attempts += 1
        session.flush()
        if job.failure != SLOT_BUSY:
            record_job_event(session, Action.JOB_STARTED, job, detail={"attempt": job.attempts})
        failpoint(f"{job.command}.claiming")
        return Claimed(job, lease, row, row_lease)


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
        values = terminated()
    lease.close(session, **ended(), **values)
    _record_end(session, job, {**decided._mapping, **values})


def ended() -> dict[str, Any]:
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
    if job.attempts >= config["JOB_ATTEMPTS"]:
        return True
    began, seconds = job.started_at or job.created_at, config["JOB_RETRY_SECONDS"]
    return bool(session.execute(select(now_ms() - began > seconds * 1000)).scalar_one())


def success(**result: Any) -> dict[str, Any]:
    """Return the values that end a job well."""
    return {
        "status": JobStatus.SUCCESS,
        "result": {"status": "ok", **result},
        "error": None,
        "failure": None,
    }


def terminated() -> dict[str, Any]:
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
