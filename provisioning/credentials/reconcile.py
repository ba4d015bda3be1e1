"""Drives credentials towards what they should be: the only path to the engines.

All that start a step (the front on creation, a worker on a job, the sweep for work whose
process died) come here with the row's claim. A step has three outcomes: done, again later
(with a reason and a growing pause), or given up after cleaning up. No transaction is open
while an engine works.
"""

from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from provisioning.backends.base import (
    Backend,
    EngineBusy,
    EngineError,
    EngineUnavailable,
    IssuedPassword,
    LoginRefused,
    NameInUse,
    RemovalUnfinished,
)
from provisioning.configuration.backoff import Backoff
from provisioning.credentials.observation import require_requested
from provisioning.credentials.passwords import mend
from provisioning.credentials.specs import backend_of, complete_spec_of, issued_columns, spec_of
from provisioning.errors import BackendUnavailable, ProvisioningError
from provisioning.installation import Installation
from provisioning.state.claims import ClaimLost, Lease, WorkersLost, close_all, take
from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.events import (
    Action,
    credentials_event,
    record_credentials_event,
    record_events,
)
from provisioning.state.failpoints import failpoint
from provisioning.state.models import Credentials, Login

log = structlog.get_logger()

#: Milliseconds until a failed step is repeated.
RETRIES = Backoff(1_000, 60_000)


class CleanupPending(Exception):
    """Access to a credential has ended, but objects of it are left; the cause tells why."""


def prolong(installation: Installation, row: Credentials) -> dict[str, Any]:
    """Make a server that ends passwords by itself wait for the row's end.

    Return the row's columns that change with it; raise ``BackendUnavailable``.
    """
    try:
        issued = backend_of(installation, row).prolong(spec_of(row))
    except EngineError as problem:
        raise BackendUnavailable(row.backend, str(problem.args[0])) from None
    return issued_columns(installation, issued)


# Creation -------------------------------------------------------------------------------


def finish_creation(
    installation: Installation, row: Credentials, lease: Lease, run_id: str = ""
) -> None:
    """Make the row's objects and turn it active; ``run_id`` is the request's.

    On failure everything made is removed, or left to the sweep in state ``dropping`` while
    the server cannot be reached, and the error is raised: an ``EngineError``, or what went
    wrong unexpectedly. Raises ``ClaimLost`` when another process took over.
    """
    try:
        with installation.keeper.keep(lease):
            issued = _make(installation, row, lease)
    except ClaimLost:
        raise
    except Exception as problem:
        _undo_creation(installation, row, lease, problem, run_id)
        raise
    columns = issued_columns(installation, issued)
    with installation.database.write() as session:
        lease.close(session, state=CredentialsState.ACTIVE, failure=None, **columns)
        record_creation_event(session, row, run_id)
        if row.login_id is not None:
            # Another of its credentials may have got a new one meanwhile.
            query = select(Login.secret).where(Login.id == row.login_id)
            columns = {"secret": session.scalars(query).one()}
    for name, value in columns.items():
        setattr(row, name, value)
    log.info("credentials_created", credentials=row.id, backend=row.backend, type=row.type)
    failpoint("create.active")


def _make(installation: Installation, row: Credentials, lease: Lease) -> IssuedPassword | None:
    backend, spec = backend_of(installation, row), complete_spec_of(installation, row)
    try:
        return backend.create(spec, installation.vault.decrypt(row.secret), lease)
    except LoginRefused as refusal:
        if row.login_id is None:
            raise
        # Another of its credentials may have got a new password, or its owner changed it.
        try:
            mend(installation, row)
        except ProvisioningError:
            raise refusal from None
        return None


def record_creation_event(session: Session, row: Credentials, run_id: str) -> None:
    """Add the event of a row that has turned active."""
    detail = {"backend": row.backend, "type": row.type}
    record_credentials_event(
        session,
        Action.CREATED,
        row,
        run_id=run_id,
        job_id=row.job_id,
        since=row.created_at,
        detail=detail,
    )


def _undo_creation(
    installation: Installation, row: Credentials, lease: Lease, problem: Exception, run_id: str
) -> None:
    failure = describe(problem)
    log.warning("creation_failed", credentials=row.id, server=row.server, failure=failure)
    with installation.database.write() as session:
        # A repeat of the request starts clean at once: the slot is free, the names are new.
        lease.write(session, state=CredentialsState.DROPPING, slot=None, failure=failure)
        record_credentials_event(
            session,
            Action.CREATION_FAILED,
            row,
            run_id=run_id,
            since=row.created_at,
            failure=failure,
        )
        if isinstance(problem, NameInUse):
            # What bears the name is not ours, and nothing else was made.
            close_dropped(session, row, lease)
            return
        if isinstance(problem, EngineUnavailable) and not isinstance(problem, EngineBusy):
            # The caller has waited for a silent server once; the sweep does the rest.
            lease.close(session, **values_for_retry(row.attempts, failure))
            return
    failpoint("create.failed")
    finish_drop(installation, row, lease)


# Removal --------------------------------------------------------------------------------


def finish_drop(installation: Installation, row: Credentials, lease: Lease) -> bool:
    """Remove the objects of a row no job is in charge of; return whether they are gone.

    If not, the row waits for its next turn: clean-up never ends before it succeeds.
    """
    try:
        drop_objects(installation, row, lease)
    except ClaimLost:
        raise
    except Exception as problem:
        failure = describe(problem)
        log.warning("drop_delayed", credentials=row.id, server=row.server, failure=failure)
        with installation.database.write() as session:
            lease.close(session, **next_turn(row.attempts, problem), **access_values(row, problem))
            if failure != row.failure:
                # A server may be away for days: its failure is recorded once.
                record_credentials_event(session, Action.DROP_DELAYED, row, failure=failure)
        return False
    with installation.database.write() as session:
        close_dropped(session, row, lease)
    log.info("credentials_dropped", credentials=row.id, backend=row.backend, type=row.type)
    return True


def drop_objects(
    installation: Installation, row: Credentials, *leases: Lease, requested_at: int = 0
) -> None:
    """Remove what the row names; the first lease is the row's own.

    Somebody asked for it at ``requested_at``, in milliseconds, or nobody did. Raises ``Held`` while
    the service observes.
    """
    require_requested(installation.database, row, requested_at)
    with installation.keeper.keep(*leases):
        drop_row(backend_of(installation, row), row, leases[0])


def drop_row(backend: Backend, row: Credentials, lease: Lease) -> None:
    """Remove what a row names; raise ``CleanupPending`` when that failed after access had ended."""
    access_ended = row.access_ended_at is not None

    def note() -> None:
        nonlocal access_ended
        access_ended = True

    try:
        backend.drop(spec_of(row), lease, note)
    except ClaimLost:
        raise
    except Exception as problem:
        if access_ended:
            raise CleanupPending from problem
        raise


def access_values(row: Credentials, problem: Exception) -> dict[str, Any]:
    """Return the row's values that change with a removal that failed.

    Once access has ended, the owner may have a new credential at once, under new names.
    """
    if not isinstance(problem, CleanupPending):
        return {}
    return {"slot": None, "access_ended_at": row.access_ended_at or now_ms()}


def next_turn(attempts: int, problem: Exception) -> dict[str, Any]:
    """Return the values of a removal's next try: soon where it is only not finished yet."""
    if isinstance(problem.__cause__, RemovalUnfinished):
        return {"attempts": attempts, "not_before": now_ms(), "failure": describe(problem)}
    return values_for_retry(attempts, describe(problem))


def removal_values(job_id: Any) -> dict[str, Any]:
    """Return the values of a row that a new delete job is in charge of."""
    return {
        "state": CredentialsState.DROPPING,
        "job_id": job_id,
        "attempts": 0,
        "not_before": 0,
        "asked": None,
    }


def dropped_values() -> dict[str, Any]:
    """Return the values of the row of a credential that is gone, without its secrets."""
    return {
        "state": CredentialsState.DROPPED,
        "slot": None,
        "port": None,
        "job_id": None,
        "secret": "",
        "pending_secret": None,
        "private_key": None,
        "login_id": None,
        "dropped_at": now_ms(),
    }


def close_dropped(session: Session, row: Credentials, lease: Lease) -> None:
    """Close the row of a credential that is gone, and forget its secrets."""
    lease.close(session, **dropped_values())
    _record_dropped(session, [row])


def close_all_dropped(session: Session, rows: Sequence[Credentials]) -> None:
    """Do what `close_dropped` does for rows that the caller's transaction has locked."""
    close_all(session, Credentials, [row.id for row in rows], **dropped_values())
    _record_dropped(session, rows)


def _record_dropped(session: Session, rows: Sequence[Credentials]) -> None:
    events = [credentials_event(Action.DROPPED, row, job_id=row.job_id) for row in rows]
    record_events(session, events)
    # Logins that rows share are locked in this order by all.
    for login_id in sorted({row.login_id for row in rows if row.login_id is not None}):
        forget_unused_login(session, login_id)


def forget_unused_login(session: Session, login_id: int) -> None:
    """Delete the row of a shared login that no credential has any more."""
    # The lock keeps a new credential from choosing the login between the count and the end.
    session.execute(select(Login.id).where(Login.id == login_id).with_for_update())
    users = select(func.count()).where(Credentials.login_id == login_id)
    if session.execute(users).scalar_one() == 0:
        session.execute(delete(Login).where(Login.id == login_id))


def values_for_retry(attempts: int, failure: str | None) -> dict[str, Any]:
    """Return the values that put a row or a job back for a later try."""
    delay = RETRIES.after(attempts)
    return {"attempts": attempts + 1, "not_before": now_ms() + delay, "failure": failure}


def describe(problem: Exception) -> str:
    """Return a reason for operators: engine errors speak for themselves and hold no secret.

    Anything else is named by its type only, since its text might quote a statement.
    """
    if isinstance(problem, CleanupPending) and isinstance(problem.__cause__, Exception):
        problem = problem.__cause__
    if isinstance(problem, EngineError | WorkersLost):
        return str(problem.args[0])
    return type(problem).__name__


def close_vanished(session: Session, row: Credentials) -> bool:
    """Turn an active row over to the sweep whose objects are gone, at least in part.

    What is left of them is removed like any other. Return False if it is not active any more.
    """
    statement = (
        update(Credentials)
        .where(Credentials.id == row.id, Credentials.state == CredentialsState.ACTIVE)
        .values(state=CredentialsState.DROPPING, slot=None, failure="vanished", not_before=now_ms())
    )
    if session.connection().execute(statement).rowcount != 1:
        return False
    record_credentials_event(session, Action.VANISHED, row)
    return True


# Work whose process died ----------------------------------------------------------------


def resume(installation: Installation, credentials_id: int) -> None:
    """Take over a row that was left in the middle of a creation or a removal."""
    with installation.database.write() as session:
        lease = take(session, Credentials, credentials_id, installation.config.claim_seconds)
        row = session.get(Credentials, credentials_id)
        if lease is not None and row is not None:
            # Counted beforehand: what kills its worker is taken up ever less often.
            lease.write(session, **values_for_retry(row.attempts, row.failure))
    if lease is None or row is None:
        return
    try:
        if row.state is CredentialsState.CREATING:
            finish_creation(installation, row, lease)
        elif row.state is CredentialsState.DROPPING and row.job_id is None:
            finish_drop(installation, row, lease)
        else:
            with installation.database.write() as session:
                lease.close(session, attempts=row.attempts, not_before=row.not_before)
    except EngineError:
        # Logged and undone where it happened; nobody waits for an answer here.
        return
    except ClaimLost:
        log.warning("claim_lost", credentials=credentials_id)
