"""What a caller can ask of a credential that exists: find, extend, drop, kill.

`creation` has the one that may not exist yet.
"""

from dataclasses import dataclass, field, replace
from typing import Any, cast

import structlog
from sqlalchemy import select

from provisioning import errors
from provisioning.access.tokens import Caller, Principal
from provisioning.backends.base import EngineError, SandboxBackend
from provisioning.configuration.catalog import backend_rules
from provisioning.configuration.config import Config, Lifetime
from provisioning.credentials.lifetime import can_extend
from provisioning.credentials.passwords import settle
from provisioning.credentials.specs import backend_of, complete_spec_of, spec_of
from provisioning.credentials.warnings import warning_of
from provisioning.installation import Installation
from provisioning.jobs.recording import slot_of
from provisioning.state.conditions import is_visible
from provisioning.state.database import now_ms
from provisioning.state.formats import read_id
from provisioning.state.models import Credentials

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
    return _view_in_use(installation, caller.principal, found)


def find_by_id(
    installation: Installation, caller: Caller, backend: str, credentials_id: str
) -> CredentialsView:
    """Return the caller's credential; raise ``CredentialsNotFound`` (contract 4.3)."""
    found = _find_owned(installation, caller, backend, credentials_id)
    return _view_in_use(installation, caller.principal, found)


def _view_in_use(
    installation: Installation, principal: Principal, found: tuple[Credentials, int]
) -> CredentialsView:
    row, now = found
    if not exists(installation, row):
        raise errors.CredentialsNotFound
    row = settle(installation, row)
    activity = None
    try:
        backend = backend_of(installation, row)
        if backend_rules(row.backend).asynchronous:
            activity = cast(SandboxBackend, backend).activity(spec_of(row))
            in_use = activity is not None and activity["connections"] > 0
        else:
            in_use = backend.in_use(spec_of(row))
    except EngineError as problem:
        raise errors.BackendUnavailable(row.backend, str(problem.args[0])) from None
    view = view_of(installation, principal, row, now)
    return replace(view, in_use=in_use, activity=activity)


def _find(installation: Installation, condition: Any) -> tuple[Credentials, int] | None:
    """Return the row and the database's time."""
    with installation.database.read() as session:
        found = session.execute(select(Credentials, now_ms()).where(condition)).first()
    return (found[0], found[1]) if found else None


def _find_active(installation: Installation, condition: Any) -> tuple[Credentials, int]:
    """Return a row its owner may see; raise ``CredentialsNotFound`` (contract 6.2.2, 6.2.3)."""
    found = _find(installation, condition & is_visible())
    if found is None:
        raise errors.CredentialsNotFound
    return found


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
        raise errors.BackendUnavailable(row.backend, str(problem.args[0])) from None


def view_of(
    installation: Installation, principal: Principal, row: Credentials, now: int
) -> CredentialsView:
    """Return what the owner sees of a row, without a look at the server's sessions."""
    password = installation.vault.decrypt(row.secret)
    spec = complete_spec_of(installation, row)
    try:
        details = backend_of(installation, row).describe(spec, password)
    except EngineError as problem:
        raise errors.BackendUnavailable(row.backend, str(problem.args[0])) from None
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
