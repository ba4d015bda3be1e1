"""New passwords: one that its owner asks for, and the old one for a login that is out of step.

A login is out of step when its owner changed the password there, or when a process died between
the server and the state. The order makes it safe. The password is recorded as pending before the
server gets it, and as in force once a login with it has worked. Wherever the process dies, the
next call finds the pending one and sets it again. One process at a time does this, under the claim
of what has the password: the credential, or the login that several share.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from provisioning import errors
from provisioning.access.tokens import Caller
from provisioning.backends.base import EngineError, EngineRefused, LoginBackend, LoginRefused
from provisioning.configuration.backoff import Backoff
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.credentials.specs import backend_of, complete_spec_of, issued_columns
from provisioning.installation import Installation
from provisioning.state.claims import ClaimLost, Lease, take
from provisioning.state.enums import CredentialsState
from provisioning.state.events import Action, credentials_event, record_events
from provisioning.state.failpoints import failpoint
from provisioning.state.models import Credentials, Login

log = structlog.get_logger()

#: Seconds between two tries to take over from a process that sets a password, or died of it.
POLLING = Backoff(0.005, 0.2, 1.5)


@dataclass(frozen=True)
class _Turn:
    """The claim of what has a password, and what the state had when it was taken."""

    lease: Lease
    row: Credentials
    secret: Secret
    pending: Secret | None


def renew_password(
    installation: Installation, caller: Caller, row: Credentials, *, end_sessions: bool
) -> None:
    """Give the row's login a new password; with ``end_sessions`` nobody stays logged in.

    Raises ``CredentialsNotFound``, and ``BackendUnavailable`` with the old password or the pending
    one in force; a repeat sets the pending one.
    """
    turn = _take_turn(installation, row)
    _set(
        installation,
        turn,
        turn.pending or generate_password(),
        Action.PASSWORD_RESET,
        caller,
        end_sessions=end_sessions,
    )


def settle(installation: Installation, row: Credentials) -> Credentials:
    """Return an active row whose password is in force, as it is unless a process died of it.

    Raises what `renew_password` does.
    """
    if row.pending_secret is None:
        return row
    return mend(installation, row)


def lets_owner_in(installation: Installation, row: Credentials) -> bool:
    """Return whether an active row's objects are there and its owner can log in.

    Raises ``BackendUnavailable``.
    """
    return row.pending_secret is None and _lets_in(installation, row)


def mend(installation: Installation, row: Credentials) -> Credentials:
    """Bring the row's password in force on the server if it is not; return the row with it.

    Raises what `renew_password` does.
    """
    turn = _take_turn(installation, row)
    in_force = False
    try:
        # Another process may have mended it meanwhile.
        in_force = turn.pending is None and _lets_in(installation, turn.row)
    except errors.BackendUnavailable:
        _give_back(installation, turn)
        raise
    if in_force:
        _give_back(installation, turn)
        return turn.row
    return _set(installation, turn, turn.pending or turn.secret, Action.PASSWORD_MENDED)


def _lets_in(installation: Installation, row: Credentials) -> bool:
    password = installation.vault.decrypt(row.secret)
    try:
        backend = cast(LoginBackend, backend_of(installation, row))
        return backend.lets_in(complete_spec_of(installation, row), password)
    except EngineError as problem:
        raise errors.BackendUnavailable(row.backend, str(problem.args[0])) from None


# The claim ------------------------------------------------------------------------------


def _take_turn(installation: Installation, row: Credentials) -> _Turn:
    """Claim what has the row's password, waiting for a process that holds it or died so."""
    end = time.monotonic() + installation.config.claim_seconds + 1
    pauses = POLLING.pauses()
    while True:
        with installation.database.write() as session:
            if turn := _try_to_take(installation, session, row):
                return turn
        if time.monotonic() > end:
            raise errors.BackendUnavailable(row.backend, "another password is being set")
        time.sleep(next(pauses))


def _try_to_take(installation: Installation, session: Session, row: Credentials) -> _Turn | None:
    seconds, vault = installation.config.claim_seconds, installation.vault
    found: Credentials | Login | None
    # What is read comes after the claim, which others' changes precede.
    if row.login_id is None:
        lease = take(session, Credentials, row.id, seconds)
        found = current = session.get(Credentials, row.id)
    else:
        lease = take(session, Login, row.login_id, seconds)
        found = session.get(Login, row.login_id)
        current = session.get(Credentials, row.id)
    # The making of a new one has its own claim, and settles the login that it shares.
    if found is None or current is None or current.state is not row.state:
        raise errors.CredentialsNotFound
    if lease is None:
        return None
    pending = vault.decrypt(found.pending_secret) if found.pending_secret else None
    return _Turn(lease, current, vault.decrypt(found.secret), pending)


def _give_back(installation: Installation, turn: _Turn) -> None:
    with suppress(ClaimLost), installation.database.write() as session:
        turn.lease.close(session)


# The change -----------------------------------------------------------------------------


def _set(
    installation: Installation,
    turn: _Turn,
    password: Secret,
    action: Action,
    caller: Caller | None = None,
    *,
    end_sessions: bool = False,
) -> Credentials:
    """Set a password on the server, recorded before and after; return the row with it."""
    row = turn.row
    try:
        columns = _tell(installation, turn, password, end_sessions=end_sessions)
        failpoint("password.told")
        with installation.database.write() as session:
            rows = _write(session, turn, claim_until=None, **columns)
            record_events(session, _events(action, rows, caller))
    except ClaimLost:
        # This process was paused for too long; another one sets it.
        raise errors.BackendUnavailable(row.backend, "the process was paused") from None
    failpoint("password.confirmed")
    log.info("password_set", credentials=row.id, server=row.server, action=action)
    for name, value in columns.items():
        setattr(row, name, value)
    return row


def _tell(
    installation: Installation, turn: _Turn, password: Secret, *, end_sessions: bool
) -> dict[str, Any]:
    """Set the pending password on the server; return what the state is to have once it is."""
    sealed = installation.vault.encrypt(password)
    backend = cast(LoginBackend, backend_of(installation, turn.row))
    spec = complete_spec_of(installation, turn.row)
    with installation.keeper.keep(turn.lease):
        with installation.database.write() as session:
            _write(session, turn, pending_secret=sealed)
        failpoint("password.proposed")
        try:
            issued = backend.set_password(spec, password, turn.lease, end_sessions=end_sessions)
        except EngineError as problem:
            # Only a password that was never sent before is certainly not in force.
            refused = isinstance(problem, EngineRefused) and not isinstance(problem, LoginRefused)
            columns = {"pending_secret": None} if refused and turn.pending is None else {}
            with installation.database.write() as session:
                _write(session, turn, claim_until=None, **columns)
            raise errors.BackendUnavailable(turn.row.backend, str(problem.args[0])) from None
    return {"secret": sealed, **issued_columns(installation, issued), "pending_secret": None}


def _write(session: Session, turn: _Turn, **columns: Any) -> Sequence[Credentials]:
    """Change what has the password, and the copies of it; return the rows that have one."""
    lease = turn.lease
    if lease.model is not Login:
        lease.write(session, **columns)
        return [turn.row]
    # A removal locks its row before the login too.
    sharing = (Credentials.login_id == lease.row_id) & (
        Credentials.state != CredentialsState.DROPPED
    )
    query = select(Credentials).where(sharing).order_by(Credentials.id)
    rows = session.scalars(query.with_for_update()).all()
    lease.write(session, **columns)
    copied = {name: value for name, value in columns.items() if name != "claim_until"}
    if copied:
        session.connection().execute(update(Credentials).where(sharing).values(**copied))
    return rows


def _events(
    action: Action, rows: Sequence[Credentials], caller: Caller | None
) -> list[dict[str, Any]]:
    author, run_id = None, ""
    if caller is not None:
        author, run_id = caller.operator or caller.principal.token_id, caller.run_id
    return [credentials_event(action, row, author=author, run_id=run_id) for row in rows]
