"""What comes before a credential's end: warnings to its owner and, for sandboxes, a grace.

A row says when it is to be looked at next (``attend_at``), whatever for, so that the look for
what is due reads nothing else. Here everything is done that needs the state alone;
`sandbox.grace` does the rest on the engines, and `notices` tells the operator's server.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.config import Config
from provisioning.credentials.lifetime import can_extend, reached_lead, starts_of_leads
from provisioning.installation import Installation
from provisioning.state.conditions import is_unclaimed
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.events import Action, record_credentials_event
from provisioning.state.formats import SECOND, format_time
from provisioning.state.models import Credentials, Notice

#: Rows of each kind that one look takes up; the next one follows in seconds.
BATCH = 100
#: Milliseconds before its end in which a sandbox is looked at, and between two looks.
LOOK_AHEAD, LOOK_PAUSE = 60_000, 10_000
#: Milliseconds between two tries to leave a note.
NOTE_PAUSE = 60_000


@dataclass(frozen=True)
class DueWarnings:
    """Sandboxes to be looked at on their engines, and notices to be sent: id and backend."""

    sandboxes: Sequence[tuple[int, str]]
    notices: Sequence[tuple[int, str]]


def attend_at(config: Config, row: Credentials, now: int, *, tried: bool = False) -> int | None:
    """Return when a row is to be looked at next; None is never.

    ``tried`` puts off what is due on an engine: it is being asked, or has just been.
    """
    end = row.ends_at
    if end is None or end <= now:
        return None
    starts = starts_of_leads(config.warnings, row.touched_at, end)
    times = [max(start, now) for start in starts if start > (row.warned_at or 0)]
    if has_stale_note(config, row, now):
        times.append(now + NOTE_PAUSE * tried)
    if may_get_grace(config, row):
        times.append(max(end - LOOK_AHEAD, now + LOOK_PAUSE * tried))
    return min(times, default=None)


def has_stale_note(config: Config, row: Credentials, now: int) -> bool:
    """Return whether a sandbox tells its user of no end, or of another one than it has."""
    if not BACKENDS[row.backend].asynchronous or row.noted_end == row.ends_at:
        return False
    return row.noted_end is not None or begun_lead(config, row, now) is not None


def may_get_grace(config: Config, row: Credentials) -> bool:
    """Return whether a sandbox would get a grace if somebody works in it at its end."""
    sandbox = BACKENDS[row.backend].asynchronous
    return sandbox and bool(config.sandbox_grace) and row.grace_until is None


def begun_lead(config: Config, row: Credentials, now: int) -> int | None:
    """Return the shortest lead in seconds that the row's end is within; None outside of all."""
    if row.ends_at is None or row.ends_at <= now:
        return None
    return reached_lead(config.warnings, row.touched_at, row.ends_at, now)


def warning_of(config: Config, row: Credentials, now: int, extendable: bool) -> str | None:
    """Return the warning that the owner gets within a lead of the end; None before."""
    if begun_lead(config, row, now) is None:
        return None
    what = "sandbox" if BACKENDS[row.backend].asynchronous else "credential"
    advice = "Extend it to keep it." if extendable else "It cannot be extended."
    return f"This {what} ends at {format_time(row.ends_at)}. {advice}"


def is_extendable(config: Config, row: Credentials, now: int) -> bool:
    """Return ``canExtend`` as far as it is known without the owner's token."""
    lifetime = config.lifetime(row.backend, row.type, server=row.server)
    return can_extend(lifetime, now, row.touched_at, row.created_at, row.expires_at)


# The look for what is due ---------------------------------------------------------------


def take_due(installation: Installation) -> DueWarnings:
    """Record the warnings that are due, and return what is to be done about them.

    Safe at any time and in any number: a row is locked, and put off before it is let go.
    """
    with installation.database.read() as session:
        # PostgreSQL looks no function of the time up in an index.
        now = read_clock(session)
        found = session.scalars(due_rows(now)).all()
    sandboxes = _warn(installation, found) if found else []
    with installation.database.read() as session:
        notices = [(row.id, row.backend) for row in session.execute(due_notices().limit(BATCH))]
    return DueWarnings(sandboxes, notices)


def due_rows(now: int) -> Select[int]:
    """Return the query for the ids of rows to be looked at."""
    return (
        select(Credentials.id)
        .where(Credentials.state == CredentialsState.ACTIVE, Credentials.attend_at <= now)
        .order_by(Credentials.attend_at)
        .limit(BATCH)
    )


def due_notices() -> Select[int, str]:
    """Return the query for id and backend of notices that should be tried now."""
    return (
        select(Notice.id, Notice.backend)
        .where(
            is_unclaimed(Notice),
            Notice.not_before <= now_ms(),
        )
        .order_by(Notice.not_before)
    )


def _warn(installation: Installation, found: Sequence[int]) -> list[tuple[int, str]]:
    """Warn of the ends of rows, and return those whose engine has to be asked as well."""
    config = installation.config
    with installation.database.write() as session:
        now = read_clock(session)
        query = (
            select(Credentials)
            .where(
                Credentials.id.in_(found),
                Credentials.state == CredentialsState.ACTIVE,
                Credentials.attend_at <= now,
            )
            .order_by(Credentials.id)
            .with_for_update()
        )
        sandboxes = []
        for row in session.scalars(query).all():
            lead = begun_lead(config, row, now)
            if lead is not None and (row.ends_at or 0) - lead * SECOND > (row.warned_at or 0):
                _record_warning(session, config, row, lead, now)
            if has_stale_note(config, row, now) or is_near_its_end(config, row, now):
                sandboxes.append((row.id, row.backend))
            row.attend_at = attend_at(config, row, now, tried=True)
    return sandboxes


def is_near_its_end(config: Config, row: Credentials, now: int) -> bool:
    """Return whether it is time to look if somebody works in a sandbox."""
    end = row.ends_at
    return may_get_grace(config, row) and end is not None and end - LOOK_AHEAD <= now < end


def _record_warning(
    session: Session, config: Config, row: Credentials, lead: int, now: int
) -> None:
    row.warned_at = now
    detail = {"expiration": format_time(row.ends_at), "leadSeconds": lead}
    record_credentials_event(session, Action.EXPIRING, row, detail=detail)
    if config.warning_url.reveal():
        session.add(
            Notice(
                backend=row.backend,
                credentials_id=row.id,
                lead=lead,
                ends_at=row.ends_at,
                created_at=now,
            )
        )
