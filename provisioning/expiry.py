"""What is due: expired credentials, and work whose message or process was lost."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Select,
    exists,
    literal,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import Session

from provisioning.callbacks import due_callbacks
from provisioning.catalog import worker_groups
from provisioning.database import next_numbers, now_ms
from provisioning.events import Action, record_credentials_event
from provisioning.idempotency import forget_old_keys
from provisioning.installation import Installation
from provisioning.jobs import record_job
from provisioning.models import Credentials, Job
from provisioning.observing import hold, read_observation
from provisioning.protection import is_over
from provisioning.restores import begin_sweep
from provisioning.states import UNFINISHED_JOBS, CredentialsState, JobCommand
from provisioning.turns import due_jobs
from provisioning.validity import format_time

#: Jobs of the same workers that one sweep finds, and credentials, and callbacks; the next one
#: follows in seconds.
SWEEP_BATCH = 200
RECOVERY_BATCH = 100
#: Expired credentials that `draining` begins with on a server, until it knows how fast that is.
FIRST_BATCH = 4


@dataclass(frozen=True)
class Due:
    """What somebody should work on now: id and backend of jobs, credentials without a job,
    and finished jobs whose end was not told."""

    jobs: list[tuple[int, str]]
    credentials: list[tuple[int, str]]
    callbacks: list[tuple[int, str]]
    #: Backend and server of expired credentials, which `draining` removes.
    expired: list[tuple[str, str]]

    def counts(self) -> dict[str, int]:
        """Return how much there is of each."""
        return {
            "dueJobs": len(self.jobs),
            "dueCredentials": len(self.credentials),
            "dueCallbacks": len(self.callbacks),
            "serversWithExpired": len(self.expired),
        }


def retire(session: Session, row: Credentials) -> None:
    """Turn an expired row over to a delete job, unless it was extended or taken meanwhile."""
    # Before the row's lock: whoever needs both takes them in this order.
    numbers = next_numbers(session, "ticket", 2)
    still = (
        select(Credentials)
        .where(
            Credentials.id == row.id,
            Credentials.state == CredentialsState.ACTIVE,
            is_over(),
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    locked = session.scalars(still).first()
    if locked is None:
        return
    locked.state, locked.slot = CredentialsState.DROPPING, None
    locked.attempts, locked.not_before = 0, 0
    if read_observation(session) is None:
        locked.job_id = record_job(
            session, JobCommand.DELETE, locked, numbers=(numbers[0], numbers[1])
        ).id
    else:
        # Its owner wants a new one; nobody has asked for the end of this one.
        hold(locked)
    record_credentials_event(
        session,
        Action.EXPIRED,
        locked,
        job_id=locked.job_id,
        detail={"expiration": format_time(locked.expires_at)},
    )


def sweep(installation: Installation, outside: int | None = None) -> Due:
    """Forget old keys, and return everything that is due.

    Safe at any time and in any number: what is due is claimed before it is worked on. ``outside``
    is the time of the last sweep that the broker keeps, if any (`restores`).
    """
    begin_sweep(installation, outside)
    forget_old_keys(installation.database)
    due = Due([], [], [], [])
    servers = [
        (name, server)
        for name, backend in installation.backends.items()
        for server in backend.servers()
    ]
    with installation.database.read() as session:
        # Each for itself: what waits for workers that are away hides nothing from the others.
        for backends in worker_groups():
            due.jobs.extend(due_jobs(session, backends, SWEEP_BATCH))
            due.credentials.extend(_pairs(session, _abandoned(backends)))
            due.callbacks.extend(_pairs(session, _due_callbacks(backends)))
        if servers and read_observation(session) is None:
            found = session.execute(_with_expired(servers))
            due.expired.extend((row.backend, row.server) for row in found)
    return due


def _pairs(session: Session, query: Select[int, str]) -> list[tuple[int, str]]:
    return [(row.id, row.backend) for row in session.execute(query.limit(RECOVERY_BATCH))]


def expired_on(backend: str, server: str) -> Select[Credentials]:
    """Return the query of what has expired on a server; who waits longest comes first.

    What an unfinished job works on is left until that has ended (contract 9.1.9).
    """
    return (
        select(Credentials)
        .where(Credentials.backend == backend, Credentials.server == server, *_is_expired())
        .order_by(Credentials.expires_at)
    )


def expired_among(numbers: Sequence[int]) -> Select[Credentials]:
    """Return the query that locks those of the rows which have expired, by their ids alone.

    An extend locks its row and then changes the index of expirations. Who locks the rows by that
    index does so in the opposite order, and MySQL has one of the two fail.
    """
    query = select(Credentials).where(Credentials.id.in_(numbers), *_is_expired())
    return query.order_by(Credentials.id).with_for_update()


def _is_expired() -> tuple[ColumnElement[bool], ...]:
    busy = exists().where(Job.slot == Credentials.slot, Job.status.in_(UNFINISHED_JOBS))
    return (Credentials.state == CredentialsState.ACTIVE, is_over(), ~busy)


def _with_expired(servers: Sequence[tuple[str, str]]) -> CompoundSelect[str, str]:
    """Return the query of those servers on which something has expired, a look at an index each."""
    return union_all(
        *(
            select(literal(backend).label("backend"), literal(server).label("server")).where(
                expired_on(backend, server).order_by(None).exists()
            )
            for backend, server in servers
        )
    )


def _abandoned(backends: Collection[str]) -> Select[int, str]:
    """Return the query of rows that no job and no process drives; the longest due come first."""
    return (
        select(Credentials.id, Credentials.backend)
        .where(
            Credentials.state.in_((CredentialsState.CREATING, CredentialsState.DROPPING)),
            Credentials.backend.in_(backends),
            Credentials.job_id.is_(None),
            or_(Credentials.claim_until.is_(None), Credentials.claim_until <= now_ms()),
            Credentials.not_before <= now_ms(),
        )
        .order_by(Credentials.not_before, Credentials.id)
    )


def _due_callbacks(backends: Collection[str]) -> Select[int, str]:
    return due_callbacks().where(Job.backend.in_(backends))
