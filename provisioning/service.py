"""What a caller can ask of a credential that exists: find, extend, drop, kill.

`creation` has the one that may not exist yet.
"""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import structlog
from sqlalchemy import select, update

from provisioning import errors
from provisioning.backends.base import EngineError, SandboxBackend
from provisioning.backlog import require_room
from provisioning.catalog import backend_rules
from provisioning.config import Config, Lifetime
from provisioning.database import now_ms, read_clock
from provisioning.endings import attend_at, warning_of
from provisioning.events import (
    Action,
    lifetime_of,
    record_credentials_event,
    record_extension,
)
from provisioning.failpoints import failpoint
from provisioning.identifiers import read_id
from provisioning.installation import Installation
from provisioning.jobs import parallel_limit_of, record_job, slot_of, take_numbers
from provisioning.models import Credentials, Job
from provisioning.protection import is_not_over
from provisioning.reconcile import backend_of, complete_spec_of, prolong, spec_of
from provisioning.requested_lifetime import require_allowed
from provisioning.states import CredentialsState, JobCommand
from provisioning.tokens import Caller, Principal
from provisioning.validity import can_extend, expiry, next_touch, shortened

log = structlog.get_logger()


@dataclass(frozen=True)
class CredentialsView:
    """A credential as its owner sees it. ``details`` holds the secrets in clear."""

    id: int
    backend: str
    details: dict[str, Any] = field(repr=False)
    #: Milliseconds since 1970; ``expires_at`` None is never.
    touched_at: int
    expires_at: int | None
    #: None where no operator keeps it beyond its expiration.
    protected_until: int | None
    can_extend: bool
    #: What to tell of an end that is near; None before.
    warning: str | None
    #: Unknown (None) in the answer of a creation.
    in_use: bool | None = None
    #: Set in the answer of a creation that passed a soft limit.
    quota_warning: str | None = None
    #: What goes on in a sandbox, where its image tells (see `SandboxBackend.activity`).
    activity: dict[str, Any] | None = None


# Reading --------------------------------------------------------------------------------


def find_by_type(
    installation: Installation, caller: Caller, backend: str, type_: str
) -> CredentialsView:
    """Return the caller's credential of the type; raise ``CredentialsNotFound``."""
    slot = slot_of(caller.principal.token_id, backend, type_)
    found = _find_active(installation, Credentials.slot == slot)
    return _look(installation, caller.principal, found)


def find_by_id(
    installation: Installation, caller: Caller, backend: str, credentials_id: str
) -> CredentialsView:
    """Return the caller's credential; raise ``CredentialsNotFound`` (contract 4.3)."""
    found = _find_owned(installation, caller, backend, credentials_id)
    return _look(installation, caller.principal, found)


def _look(
    installation: Installation, principal: Principal, found: tuple[Credentials, int]
) -> CredentialsView:
    row, now = found
    if not exists(installation, row):
        raise errors.CredentialsNotFound
    activity = None
    try:
        backend = backend_of(installation, row)
        if backend_rules(row.backend).asynchronous:
            activity = cast(SandboxBackend, backend).activity(spec_of(row))
            in_use = activity is not None and activity["connections"] > 0
        else:
            in_use = backend.in_use(spec_of(row))
    except EngineError:
        raise errors.BackendUnavailable(row.backend) from None
    view = view_of(installation, principal, row, now)
    return replace(view, in_use=in_use, activity=activity)


def _find(installation: Installation, condition: Any) -> tuple[Credentials, int] | None:
    """Return the row and the database's time."""
    with installation.database.read() as session:
        found = session.execute(select(Credentials, now_ms()).where(condition)).first()
    return (found[0], found[1]) if found else None


def _find_active(installation: Installation, condition: Any) -> tuple[Credentials, int]:
    """Return a row its owner may see; raise ``CredentialsNotFound`` (contract 6.2.2, 6.2.3)."""
    found = _find(installation, condition & visible())
    if found is None:
        raise errors.CredentialsNotFound
    return found


def visible() -> Any:
    """Return the condition for rows that are neither in the making, going, nor expired."""
    return (Credentials.state == CredentialsState.ACTIVE) & is_not_over()


def _find_owned(
    installation: Installation, caller: Caller, backend: str, credentials_id: str
) -> tuple[Credentials, int]:
    number = read_id(credentials_id)
    if number is None:
        raise errors.CredentialsNotFound
    return _find_active(installation, _owned(caller, backend, number))


def _owned(caller: Caller, backend: str, number: int) -> Any:
    principal = caller.principal
    return (
        (Credentials.id == number)
        & (Credentials.backend == backend)
        & (Credentials.token_id == principal.token_id)
        & (Credentials.project_id == principal.project_id)
    )


def exists(installation: Installation, row: Credentials) -> bool:
    """Return whether the objects are there; an unreachable server is never "vanished"."""
    try:
        return backend_of(installation, row).exists(spec_of(row))
    except EngineError as problem:
        log.warning("look_failed", credentials=row.id, failure=str(problem.args[0]))
        raise errors.BackendUnavailable(row.backend) from None


def view_of(
    installation: Installation, principal: Principal, row: Credentials, now: int
) -> CredentialsView:
    """Return what the owner sees of a row, without a look at the server's sessions."""
    password = installation.vault.decrypt(row.secret)
    spec = complete_spec_of(installation, row)
    try:
        details = backend_of(installation, row).describe(spec, password)
    except EngineError:
        raise errors.BackendUnavailable(row.backend) from None
    extendable = can_extend(
        lifetime_in(installation.config, row, principal),
        now,
        row.touched_at,
        row.created_at,
        row.expires_at,
    )
    return CredentialsView(
        id=row.id,
        backend=row.backend,
        details=details,
        touched_at=row.touched_at,
        expires_at=row.expires_at,
        protected_until=row.protected_until,
        can_extend=extendable,
        warning=warning_of(installation.config, row, now, extendable),
    )


def lifetime_in(config: Config, row: Credentials, principal: Principal) -> Lifetime:
    """Return how long an extend by the principal makes the credential live."""
    return config.lifetime(row.backend, row.type, principal.limits, row.server)


# Changes --------------------------------------------------------------------------------


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
        query = select(Credentials).where(_owned(caller, backend, row.id) & visible())
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
    installation: Installation, caller: Caller, backend: str, credentials_id: str
) -> Job:
    """Hide the credential and record its delete job, in one transaction (contract 7, 8.5).

    Raises ``CredentialsNotFound`` and ``QueueFull``. Where the caller waits for the removal, it
    raises ``BackendUnavailable`` with nothing changed when the server cannot be reached.
    """
    row, _ = _find_owned(installation, caller, backend, credentials_id)
    if not backend_rules(backend).asynchronous:
        # What has vanished may still have remains, so only reachability matters here.
        exists(installation, row)
    require_room(installation, caller.principal.project_id)
    numbers = take_numbers(installation, caller)
    with installation.database.write() as session:
        job = record_job(
            session,
            JobCommand.DELETE,
            row,
            owner=caller.principal,
            author=caller.operator,
            run_id=caller.run_id,
            numbers=numbers,
            parallel_limit=parallel_limit_of(installation.config, caller.principal),
        )
        statement = (
            update(Credentials)
            .where(_owned(caller, backend, row.id) & visible())
            .values(state=CredentialsState.DROPPING, job_id=job.id, attempts=0, not_before=0)
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


def request_kill(
    installation: Installation, caller: Caller, backend: str, credentials_id: str
) -> Job:
    """Record a job that ends the credential's sessions (contract 7.6).

    Raises ``CredentialsNotFound`` and ``QueueFull``.
    """
    row, _ = _find_owned(installation, caller, backend, credentials_id)
    if not exists(installation, row):
        raise errors.CredentialsNotFound
    require_room(installation, caller.principal.project_id)
    numbers = take_numbers(installation, caller)
    with installation.database.write() as session:
        job = record_job(
            session,
            JobCommand.KILL,
            row,
            owner=caller.principal,
            author=caller.operator,
            run_id=caller.run_id,
            numbers=numbers,
            parallel_limit=parallel_limit_of(installation.config, caller.principal),
        )
    failpoint("kill.accepted")
    return job
