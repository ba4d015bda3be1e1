"""Protection: an operator keeps a credential beyond its expiration, until a time.

While it holds, the sweep leaves the credential alone and its owner goes on using it. The owner
may still delete it.
"""

from typing import Any

import structlog
from sqlalchemy import ColumnElement, and_, or_, select

from provisioning import errors
from provisioning.database import now_ms, read_clock
from provisioning.endings import attend_at
from provisioning.events import Action, record_credentials_event
from provisioning.installation import Installation
from provisioning.models import Credentials
from provisioning.reconcile import prolong
from provisioning.states import CredentialsState
from provisioning.validity import format_time

log = structlog.get_logger()


def is_over() -> ColumnElement[bool]:
    """Return the condition for rows past their expiration and their protection."""
    return and_(Credentials.expires_at <= now_ms(), is_not_protected())


def is_not_protected() -> ColumnElement[bool]:
    """Return the condition for rows that no operator keeps at the moment."""
    return or_(Credentials.protected_until.is_(None), Credentials.protected_until <= now_ms())


def is_not_over() -> ColumnElement[bool]:
    """Return the opposite of `is_over`; of what never ends, neither compares to be true."""
    return or_(
        Credentials.expires_at.is_(None),
        Credentials.expires_at > now_ms(),
        Credentials.protected_until > now_ms(),
    )


def protect(
    installation: Installation, credentials_id: int, until: int | None, author: str
) -> Credentials:
    """Keep a live credential until a time in milliseconds; None ends its protection.

    ``author`` is who does it, as events name them. One that has expired can be kept as long as no
    sweep has retired it. Raises ``CredentialsNotFound``, ``ParameterInvalid`` for a time that is
    over, and ``BackendUnavailable`` when a server that ends passwords by itself cannot be told.
    """
    query = select(Credentials, now_ms()).where(_is_live(credentials_id))
    with installation.database.read() as session:
        found = session.execute(query).first()
    if found is None:
        raise errors.CredentialsNotFound
    row, now = found
    if until is not None and until <= now:
        raise errors.ParameterInvalid("until", "it has to be in the future")
    row.protected_until = until
    issued = prolong(installation, row)
    locked = _record(installation, credentials_id, until, author, issued)
    if locked.expires_at != row.expires_at:
        # It was extended at the same moment, and the server may have heard of that first.
        prolong(installation, locked)
    log.info("credentials_protected", credentials=locked.id, until=format_time(until))
    return locked


def _record(
    installation: Installation,
    credentials_id: int,
    until: int | None,
    author: str,
    issued: dict[str, Any],
) -> Credentials:
    with installation.database.write() as session:
        query = select(Credentials).where(_is_live(credentials_id)).with_for_update()
        row = session.scalars(query).first()
        if row is None:
            raise errors.CredentialsNotFound
        detail = {
            "before": {"protectedUntil": format_time(row.protected_until)},
            "after": {"protectedUntil": format_time(until)},
        }
        for name, value in {**issued, "protected_until": until}.items():
            setattr(row, name, value)
        row.attend_at = attend_at(installation.config, row, read_clock(session))
        record_credentials_event(session, Action.PROTECTED, row, author=author, detail=detail)
    return row


def _is_live(credentials_id: int) -> ColumnElement[bool]:
    return and_(Credentials.id == credentials_id, Credentials.state == CredentialsState.ACTIVE)
