"""What owners change: they extend a credential, delete it, or end its sessions."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.access.tokens import Caller
from provisioning.configuration.catalog import backend_rules
from provisioning.credentials.lifetime import (
    can_extend,
    expiry,
    next_touch,
    require_allowed,
    shortened,
)
from provisioning.credentials.passwords import renew_password
from provisioning.credentials.reading import (
    CredentialsView,
    _find_owned,
    _owned,
    exists,
    find_by_id,
    lifetime_in,
    log,
)
from provisioning.credentials.reconcile import prolong, removal_values
from provisioning.credentials.warnings import attend_at
from provisioning.installation import Installation
from provisioning.jobs.backlog import require_queue_space
from provisioning.jobs.recording import parallel_limit_of, record_job, slot_of, take_numbers
from provisioning.state.conditions import is_visible
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CredentialsState, JobCommand, JobStatus
from provisioning.state.events import (
    Action,
    lifetime_of,
    record_credentials_event,
    record_extension,
)
from provisioning.state.failpoints import failpoint
from provisioning.state.formats import read_id
from provisioning.state.models import Credentials, Job

#: Milliseconds for which the repeat of a delete is told of an end that nobody was told of.
MEMORY = 600_000


@dataclass(frozen=True)
class Extension:
    """The answer of an extend; milliseconds, ``expires_at`` None is never."""

    id: int
    touched_at: int
    expires_at: int | None


def extend(
    installation: Installation,
    caller: Caller,
    backend: str,
    credentials_id: str,
    ttl: int | None = None,
) -> Extension:
    """Start the lifetime anew (contract 6.3), or one of ``ttl`` seconds.

    Raises ``CredentialsNotFound``, ``ParameterInvalid`` and ``CannotExtend``. Where the server
    does not end passwords by itself, it is asked only whether the credential has vanished, and
    may be down.
    """
    row, now = _find_owned(installation, caller, backend, credentials_id)
    allowed = lifetime_in(installation.config, row, caller.principal)
    require_allowed([allowed], ttl)
    lifetime = shortened(allowed, ttl)
    try:
        if not exists(installation, row):
            raise errors.CredentialsNotFound
    except errors.BackendUnavailable:
        engine = installation.backends.get(row.backend)
        if engine is None or engine.ends_passwords:
            # Who has waited for a silent server once does not wait for it again.
            raise
        log.info("extended_unseen", credentials=row.id)
    # Tell the server first: an extend that it refuses has not happened.
    row.expires_at = expiry(lifetime, next_touch(now, row.touched_at), row.created_at)
    issued = prolong(installation, row)
    failpoint("extend.prolonged")
    with installation.database.write() as session:
        # The lock decides between an extend and an expiry at the same moment.
        query = select(Credentials).where(_owned(caller, backend, row.id) & is_visible())
        locked = session.scalars(query.with_for_update()).first()
        if locked is None:
            raise errors.CredentialsNotFound
        now = read_clock(session)
        if not can_extend(allowed, now, locked.touched_at, locked.created_at, locked.expires_at):
            raise errors.CannotExtend
        before = lifetime_of(locked)
        locked.touched_at = next_touch(now, locked.touched_at)
        locked.expires_at = expiry(lifetime, locked.touched_at, locked.created_at)
        locked.grace_until = None
        locked.attend_at = attend_at(installation.config, locked, now)
        if locked.secret == row.secret:
            # Otherwise the owner asked for a new one meanwhile, which came later.
            for name, value in issued.items():
                setattr(locked, name, value)
        record_extension(session, locked, before, caller.run_id, caller.operator)
    failpoint("extend.committed")
    if locked.protected_until != row.protected_until:
        # It was protected at the same moment, and the server may have heard of that first.
        prolong(installation, locked)
    log.info("credentials_extended", credentials=locked.id, touch=locked.touched_at // 1000)
    return Extension(locked.id, locked.touched_at, locked.expires_at)


def request_drop(
    installation: Installation,
    caller: Caller,
    backend: str,
    credentials_id: str,
    *,
    waits: bool = False,
) -> Job:
    """Hide the credential and record its delete job, in one transaction (contract 7, 8.5).

    Who ``waits`` is to be told of the end, with `note_told`, or to come again, with
    `note_sent_away`: then `find_drop` finds the job. Raises ``CredentialsNotFound`` and
    ``QueueFull``. Where the caller waits for the removal, it raises ``BackendUnavailable`` with
    nothing changed when the server cannot be reached.
    """
    row, _ = _find_owned(installation, caller, backend, credentials_id)
    if not backend_rules(backend).asynchronous:
        # What has vanished may still have remains, so only reachability matters here.
        exists(installation, row)
    asked = {"asked": 1 if waits else None, "sent_away_at": None}
    with _recording(installation, caller, JobCommand.DELETE, row) as (session, job):
        statement = (
            update(Credentials)
            .where(_owned(caller, backend, row.id) & is_visible())
            .values(removal_values(job.id) | asked)
        )
        if session.connection().execute(statement).rowcount != 1:
            raise errors.CredentialsNotFound
        record_credentials_event(
            session,
            Action.DROP_REQUESTED,
            row,
            author=caller.operator,
            run_id=caller.run_id,
            job_id=job.id,
        )
        failpoint("delete.recording")
    failpoint("delete.accepted")
    return job


def find_drop(
    installation: Installation, caller: Caller, backend: str, credentials_id: str, arrived: float
) -> Job | None:
    """Return the running delete job that callers of the owner wait for, for one more of them.

    None says that the removal is done, and that the caller is told of it now. It ``arrived``, by
    the monotonic clock, before the end, or it is one of those who were told to come again. Raises
    ``CredentialsNotFound`` where neither is so, and when the end is too long ago (contract 7.3).
    """
    number = read_id(credentials_id)
    if number is None:
        raise errors.CredentialsNotFound
    waited_for = _owned(caller, backend, number) & Credentials.asked.is_not(None)
    with installation.database.read() as session:
        found = session.execute(select(Credentials, now_ms()).where(waited_for)).first()
        if found is None:
            raise errors.CredentialsNotFound
        row, now = found
        arrived_at = now - (time.monotonic() - arrived) * 1000
        job = session.get(Job, row.job_id) if row.job_id else None
    if row.state is CredentialsState.DROPPING and job is not None and row.asked:
        if arrived_at <= (row.sent_away_at or now):
            # It cannot be the repeat of one that was sent away later.
            _count(installation, row.id, asked=Credentials.asked + 1)
        return job
    ended_at = row.access_ended_at or row.dropped_at
    if ended_at is None or now - ended_at >= MEMORY:
        raise errors.CredentialsNotFound
    if arrived_at >= ended_at and not note_told(installation, row.id):
        raise errors.CredentialsNotFound
    return None


def note_told(installation: Installation, credentials_id: int) -> bool:
    """Note that a caller is told of the removal, or where to look; return whether one was left."""
    left = Credentials.asked > 0
    return _count(installation, credentials_id, left, asked=Credentials.asked - 1)


def note_sent_away(installation: Installation, credentials_id: int) -> None:
    """Note that a caller who waits for the removal is told to come again."""
    _count(installation, credentials_id, Credentials.sent_away_at.is_(None), sent_away_at=now_ms())


def _count(
    installation: Installation,
    credentials_id: int,
    *conditions: ColumnElement[bool],
    **values: Any,
) -> bool:
    """Update the row if it meets the conditions; return whether it did."""
    statement = update(Credentials).where(Credentials.id == credentials_id, *conditions)
    with installation.database.write() as session:
        return session.connection().execute(statement.values(values)).rowcount == 1


def request_kill(
    installation: Installation,
    caller: Caller,
    backend: str,
    credentials_id: str,
    *,
    waits: bool = False,
) -> Job:
    """Record a job that ends the credential's sessions (contract 7.6).

    Who ``waits`` for its end may get a job that another one waits for and that has not started:
    it will end all sessions that there are now. Raises ``CredentialsNotFound`` and ``QueueFull``.
    """
    row, _ = _find_owned(installation, caller, backend, credentials_id)
    if not exists(installation, row):
        raise errors.CredentialsNotFound
    if waits:
        slot = slot_of(row.token_id, row.backend, row.type)
        query = select(Job).where(
            Job.slot == slot,
            Job.status == JobStatus.WAITING,
            Job.command == JobCommand.KILL,
            Job.credentials_id == row.id,
        )
        with installation.database.read() as session:
            waiting = session.scalars(query.limit(1)).first()
        if waiting is not None:
            return waiting
    with _recording(installation, caller, JobCommand.KILL, row) as (_, job):
        pass
    failpoint("kill.accepted")
    return job


def reset_password(
    installation: Installation,
    caller: Caller,
    backend: str,
    credentials_id: str,
    *,
    end_sessions: bool = False,
) -> CredentialsView:
    """Give the credential's login a new password, and return what a read returns.

    With ``end_sessions``, its open sessions are ended too. Raises ``CredentialsNotFound`` and
    ``BackendUnavailable``; a repeat goes on where this ended.
    """
    row, _ = _find_owned(installation, caller, backend, credentials_id)
    if not exists(installation, row):
        raise errors.CredentialsNotFound
    renew_password(installation, caller, row, end_sessions=end_sessions)
    return find_by_id(installation, caller, backend, credentials_id)


@contextmanager
def _recording(
    installation: Installation, caller: Caller, command: JobCommand, row: Credentials
) -> Iterator[tuple[Session, Job]]:
    """Yield the transaction that records a job of the caller's on a credential, and that job.

    Raises ``QueueFull``.
    """
    require_queue_space(installation, caller.principal.project_id)
    numbers = take_numbers(installation, caller)
    with installation.database.write() as session:
        job = record_job(
            session,
            command,
            row,
            owner=caller.principal,
            author=caller.operator,
            run_id=caller.run_id,
            numbers=numbers,
            parallel_limit=parallel_limit_of(installation.config, caller.principal),
        )
        yield session, job
