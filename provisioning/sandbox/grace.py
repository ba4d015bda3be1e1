"""The last hours of a sandbox: a note in its directory, and a grace if somebody works in it."""

from typing import cast

import structlog
from sqlalchemy import select

from provisioning.backends.base import EngineError, SandboxBackend
from provisioning.configuration.config import Config, Lifetime
from provisioning.credentials.lifetime import expiry
from provisioning.credentials.specs import backend_of, spec_of
from provisioning.credentials.warnings import (
    attend_at,
    has_stale_note,
    is_extendable,
    is_near_its_end,
)
from provisioning.installation import Installation
from provisioning.state.claims import ClaimLost, Lease, take
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.events import Action, lifetime_of, record_credentials_event
from provisioning.state.formats import SECOND, format_time
from provisioning.state.models import Credentials

log = structlog.get_logger()


def attend(installation: Installation, credentials_id: int) -> None:
    """Look after a sandbox that is about to end; one that is not is left alone.

    An engine that does not answer is asked again after a while: the row was put off before.
    """
    with installation.database.write() as session:
        lease = take(session, Credentials, credentials_id, installation.config.claim_seconds)
        row, now = session.get(Credentials, credentials_id), read_clock(session)
    if lease is None or row is None:
        return
    try:
        with installation.keeper.keep(lease):
            if row.state is CredentialsState.ACTIVE:
                _attend(installation, row, lease, now)
        with installation.database.write() as session:
            lease.close(session)
    except ClaimLost:
        log.warning("claim_lost", credentials=credentials_id)


def _attend(installation: Installation, row: Credentials, lease: Lease, now: int) -> None:
    try:
        _ask_engine(installation, row, lease, now)
    except EngineError as problem:
        log.warning("look_failed", credentials=row.id, failure=str(problem.args[0]))


def _ask_engine(installation: Installation, row: Credentials, lease: Lease, now: int) -> None:
    config, engine = installation.config, cast(SandboxBackend, backend_of(installation, row))
    if is_near_its_end(config, row, now) and _is_worked_in(engine, row):
        row = _give_grace(installation, row)
    if has_stale_note(config, row, now):
        engine.leave_note(spec_of(row), _note(config, row, now), lease)
        _record_note(installation, row, lease)


def _is_worked_in(engine: SandboxBackend, row: Credentials) -> bool:
    """Return whether somebody is connected, or a computation goes on without anybody."""
    activity = engine.activity(spec_of(row))
    if activity is None:
        return False
    return activity["connections"] > 0 or (activity["busyKernels"] or 0) > 0


def _give_grace(installation: Installation, row: Credentials) -> Credentials:
    """Put the end off, once, up to the hard maximum; return the row as it is then."""
    config = installation.config
    with installation.database.write() as session:
        query = select(Credentials).where(
            Credentials.id == row.id, Credentials.state == CredentialsState.ACTIVE
        )
        locked, now = session.scalars(query.with_for_update()).first(), read_clock(session)
        if locked is None or not is_near_its_end(config, locked, now):
            # It has expired, was extended or deleted meanwhile.
            return locked or row
        before, end = lifetime_of(locked), locked.ends_at
        locked.grace_until = locked.expires_at = _end_of_grace(config, locked)
        locked.attend_at = attend_at(config, locked, now, tried=True)
        if locked.ends_at != end:
            detail = {"before": before, "after": lifetime_of(locked)}
            record_credentials_event(session, Action.GRACE_GIVEN, locked, detail=detail)
            log.info("grace_given", credentials=row.id, expiration=format_time(locked.ends_at))
    return locked


def _end_of_grace(config: Config, row: Credentials) -> int:
    end = row.ends_at or 0
    maximum = config.lifetime(row.backend, row.type, server=row.server).maximum
    bound = expiry(Lifetime(None, maximum), row.touched_at, row.created_at)
    longer: int = end + config.sandbox_grace * SECOND
    return longer if bound is None else max(end, min(longer, bound))


def _note(config: Config, row: Credentials, now: int) -> str:
    advice = (
        f"Extend it to keep it: POST /provisioning/{row.backend}/{row.id}/extend"
        if is_extendable(config, row, now)
        else "It cannot be extended."
    )
    return (
        f"This sandbox, with all that is in it, is removed at {format_time(row.ends_at)}.\n"
        f"{advice}\n"
    )


def _record_note(installation: Installation, row: Credentials, lease: Lease) -> None:
    config = installation.config
    with installation.database.write() as session:
        lease.write(session, noted_end=row.ends_at)
        locked, now = session.get_one(Credentials, row.id), read_clock(session)
        # Its end may have changed meanwhile: then it is looked at again at once.
        tried = not has_stale_note(config, locked, now)
        locked.attend_at = attend_at(config, locked, now, tried=tried)
