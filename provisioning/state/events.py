"""The audit: what was done, when, by which process and for whom.

An event is written in the transaction of the change it records, after the row was changed:
then the lock of a job's row keeps the events of the job in the order of their ids. A caller
reads ``detail``, so only what it may know goes there; ``failure`` is for operators. No secret
is in either.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, bindparam, insert, select
from sqlalchemy.orm import Session

from provisioning.configuration.metrics import EVENTS
from provisioning.state.claims import owner_name
from provisioning.state.database import Database, now_ms
from provisioning.state.enums import CredentialsState, JobStatus
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials, Event, Job

#: Events that one reading returns at most.
PAGE = 1000
RUN_ID_WIDTH = 255
#: Who did it, where it was none of a project's tokens; a colon and which one may follow.
OPERATOR = "operator"


class Action(StrEnum):
    """What an event records."""

    CREATED = "credentials.created"
    CREATION_FAILED = "credentials.creation_failed"
    EXTENDED = "credentials.extended"
    EXPIRING = "credentials.expiring"
    GRACE_GIVEN = "credentials.grace_given"
    PROTECTED = "credentials.protected"
    PASSWORD_RESET = "credentials.password_reset"
    PASSWORD_MENDED = "credentials.password_mended"
    EXPIRED = "credentials.expired"
    COLLECTED = "credentials.collected"
    DROP_REQUESTED = "credentials.drop_requested"
    RESTORED = "credentials.restored"
    VANISHED = "credentials.vanished"
    DROP_DELAYED = "credentials.drop_delayed"
    DROPPED = "credentials.dropped"
    ORPHANED = "credentials.orphaned"
    SESSIONS_KILLED = "sessions.killed"
    JOB_ACCEPTED = "job.accepted"
    JOB_STARTED = "job.started"
    JOB_STEP = "job.step"
    JOB_DELAYED = "job.delayed"
    JOB_RETRY_REQUESTED = "job.retry_requested"
    JOB_KILL_REQUESTED = "job.kill_requested"
    JOB_UNDOING = "job.undoing"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELLED = "job.cancelled"
    JOB_TERMINATED = "job.terminated"
    SOFT_LIMIT = "quota.soft_limit"
    CALLBACK_TAKEN = "callback.taken"
    CALLBACK_GIVEN_UP = "callback.given_up"
    WARNING_TAKEN = "warning.taken"
    WARNING_GIVEN_UP = "warning.given_up"
    TOKEN_CREATED = "token.created"
    TOKEN_REVOKED = "token.revoked"
    MANAGE_TOKEN_CREATED = "manage_token.created"
    MANAGE_TOKEN_REVOKED = "manage_token.revoked"
    ORPHANS_FOUND = "orphans.found"
    OBSERVATION_BEGUN = "observation.begun"
    OBSERVATION_ENDED = "observation.ended"


#: The last event of a job, by its status.
ENDS = {
    JobStatus.SUCCESS: Action.JOB_SUCCEEDED,
    JobStatus.ERROR: Action.JOB_FAILED,
    JobStatus.CANCELLED: Action.JOB_CANCELLED,
    JobStatus.TERMINATED: Action.JOB_TERMINATED,
}


def _from_to(before: CredentialsState, after: CredentialsState) -> dict[str, Any]:
    return {"before": {"state": before}, "after": {"state": after}}


#: What becomes of the state of a credential, as its events tell it.
_REMOVAL = _from_to(CredentialsState.ACTIVE, CredentialsState.DROPPING)
_UNDOING = _from_to(CredentialsState.CREATING, CredentialsState.DROPPING)
_CHANGES: dict[Action, dict[str, Any]] = {
    Action.CREATED: _from_to(CredentialsState.CREATING, CredentialsState.ACTIVE),
    Action.CREATION_FAILED: _UNDOING,
    Action.JOB_UNDOING: _UNDOING,
    Action.EXPIRED: _REMOVAL,
    Action.COLLECTED: _REMOVAL,
    Action.DROP_REQUESTED: _REMOVAL,
    Action.VANISHED: _REMOVAL,
    Action.RESTORED: _from_to(CredentialsState.DROPPING, CredentialsState.ACTIVE),
    Action.DROPPED: _from_to(CredentialsState.DROPPING, CredentialsState.DROPPED),
}


# Writing --------------------------------------------------------------------------------

_COLUMNS = (
    "action",
    "project_id",
    "token_id",
    "run_id",
    "job_id",
    "credentials_id",
    "worker",
    "detail",
    "failure",
)
#: Built once: every create runs it. Nobody asks for the new id, so none is fetched.
_INSERT = (
    insert(Event.__table__)  # type: ignore[arg-type]
    .values(
        {name: bindparam(name) for name in _COLUMNS}
        | {"time": now_ms(), "duration": now_ms() - bindparam("since", type_=BigInteger())}
    )
    .inline()
)


Values = dict[str, Any]


def record_events(session: Session, events: Sequence[Values]) -> None:
    """Add what `credentials_event` and `job_event` have returned, in the caller's transaction."""
    session.connection().execute(_INSERT, events)


def credentials_event(
    action: Action,
    row: Credentials,
    *,
    author: str | None = None,
    run_id: str = "",
    job_id: int | None = None,
    since: int | None = None,
    detail: dict[str, Any] | None = None,
    failure: str | None = None,
) -> Values:
    """Return an event of a credential.

    ``author`` is who did it, if not the owner's token. ``since`` is when the work began, in
    milliseconds of the database's clock.
    """
    EVENTS.labels(action, row.backend).inc()
    return _event(
        action,
        project_id=row.project_id,
        token_id=author or row.token_id,
        run_id=run_id,
        job_id=job_id,
        credentials_id=row.id,
        since=since,
        detail=detail,
        failure=failure,
    )


def job_event(
    action: Action,
    job: Job,
    *,
    token_id: str | None = None,
    detail: dict[str, Any] | None = None,
    failure: str | None = None,
) -> Values:
    """Return an event of a job; ``token_id`` is who did it, if not its owner."""
    EVENTS.labels(action, job.backend).inc()
    return _event(
        action,
        project_id=job.project_id,
        token_id=token_id or job.token_id,
        run_id=job.run_id,
        job_id=job.id,
        credentials_id=job.credentials_id,
        since=job.started_at,
        detail=detail,
        failure=failure,
    )


def _event(action: Action, *, run_id: str, detail: dict[str, Any] | None, **values: Any) -> Values:
    change = _CHANGES.get(action)
    return {
        "action": action,
        "worker": owner_name(),
        "run_id": run_id[:RUN_ID_WIDTH],
        "detail": {**(detail or {}), **change} if change else detail,
        **values,
    }


def record_credentials_event(
    session: Session, action: Action, row: Credentials, **values: Any
) -> None:
    """Add an event of a credential, in the caller's transaction; see `credentials_event`."""
    record_events(session, [credentials_event(action, row, **values)])


def record_job_event(session: Session, action: Action, job: Job, **values: Any) -> None:
    """Add an event of a job, in the caller's transaction; see `job_event`."""
    record_events(session, [job_event(action, job, **values)])


def record_operation(
    session: Session,
    action: Action,
    author: str,
    *,
    project_id: str = "",
    run_id: str = "",
    detail: dict[str, Any] | None = None,
) -> None:
    """Add an event of the installation itself, or of a project, in the caller's transaction."""
    event = _event(
        action,
        project_id=project_id,
        token_id=author,
        run_id=run_id,
        job_id=None,
        credentials_id=None,
        since=None,
        detail=detail,
        failure=None,
    )
    record_events(session, [event])


def record_extension(
    session: Session,
    row: Credentials,
    before: dict[str, Any],
    run_id: str,
    author: str | None = None,
) -> None:
    """Add the event of an extend; ``before`` is what `lifetime_of` returned of the row before."""
    detail = {"before": before, "after": lifetime_of(row)}
    record_credentials_event(
        session, Action.EXTENDED, row, author=author, run_id=run_id, detail=detail
    )


def lifetime_of(row: Credentials) -> dict[str, Any]:
    """Return what an extend changes, as the API prints it."""
    return {"touch": row.touched_at // 1000, "expiration": format_time(row.expires_at)}


# Reading --------------------------------------------------------------------------------


def events_of_job(database: Database, job_id: int, after: int = 0) -> Sequence[Event]:
    """Return the events of a job with ids above ``after``, oldest first, a page at most."""
    query = select(Event).where(Event.job_id == job_id, Event.id > after)
    with database.read() as session:
        return session.scalars(query.order_by(Event.id).limit(PAGE)).all()


def progress_of_job(
    database: Database, job_id: int, after: int
) -> tuple[JobStatus, Sequence[Event]]:
    """Return the status of a job and its events as `events_of_job` does, at one moment."""
    query = (
        select(Job.status, Event)
        .outerjoin(Event, (Event.job_id == Job.id) & (Event.id > after))
        .where(Job.id == job_id)
        .order_by(Event.id)
        .limit(PAGE)
    )
    with database.read() as session:
        rows = session.execute(query).all()
    return rows[0].status, [row.Event for row in rows if row.Event is not None]


def newest_events(database: Database, limit: int, **columns: Any) -> Sequence[Event]:
    """Return the newest events with these values in their columns, oldest first."""
    query = select(Event).filter_by(**columns).order_by(Event.id.desc()).limit(limit)
    with database.read() as session:
        return session.scalars(query).all()[::-1]
