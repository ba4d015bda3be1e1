"""Protection: an operator keeps a credential beyond its expiration, until a time.

While it holds, the sweep leaves the credential alone and its owner goes on using it. The owner
may still delete it.
"""

from typing import Any

import structlog
from sqlalchemy import ColumnElement, and_, select

from provisioning import errors
from provisioning.credentials.reconcile import prolong
from provisioning.credentials.warnings import attend_at
from provisioning.installation import Installation
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.events import Action, record_credentials_event
from provisioning.state.formats import format_time
from provisioning.state.models import Credentials

log = structlog.get_logger()


def protect(
    installation: Installation, credentials_id: int, until: int | None, author: str
) -> Credentials:
    """Keep a live credential until a time in milliseconds; None ends its protection.

    ``author`` is who does it, as events name them. One that has expired can be kept as long as no
    sweep has retired it. Raises ``CredentialsNotFound``, ``ParameterInvalid`` for a time that is
    over, and ``BackendUnavailable`` when a server that ends passwords by itself cannot be told.
    """
    query = select(Credentials, now_ms()).where(_is_active(credentials_id))
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
        query = select(Credentials).where(_is_active(credentials_id)).with_for_update()
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


def _is_active(credentials_id: int) -> ColumnElement[bool]:
    return and_(Credentials.id == credentials_id, Credentials.state == CredentialsState.ACTIVE)
