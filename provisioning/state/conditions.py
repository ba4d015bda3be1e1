"""Conditions that several packages put to the same rows, each written once.

They take the model, or the columns of its table under another name.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, or_

from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials


def is_live(row: Any = Credentials) -> ColumnElement[bool]:
    """Return the condition for credentials in the making or in use, which have not expired."""
    states = (CredentialsState.CREATING, CredentialsState.ACTIVE)
    return and_(row.state.in_(states), is_not_over(row))


def is_visible(row: Any = Credentials) -> ColumnElement[bool]:
    """Return the condition for credentials that their owner sees (contract 6.2.2)."""
    return and_(row.state == CredentialsState.ACTIVE, is_not_over(row))


def is_over(row: Any = Credentials) -> ColumnElement[bool]:
    """Return the condition for credentials past their expiration and their protection."""
    return and_(row.expires_at <= now_ms(), is_not_protected(row))


def is_not_over(row: Any = Credentials) -> ColumnElement[bool]:
    """Return the opposite of `is_over`; of what never ends, neither compares to be true."""
    return or_(
        row.expires_at.is_(None),
        row.expires_at > now_ms(),
        row.protected_until > now_ms(),
    )


def is_not_protected(row: Any = Credentials) -> ColumnElement[bool]:
    """Return the condition for credentials that no operator keeps at the moment."""
    return or_(row.protected_until.is_(None), row.protected_until <= now_ms())


def is_unclaimed(row: Any) -> ColumnElement[bool]:
    """Return the condition for rows that no process holds, or whose holder fell silent."""
    return or_(row.claim_until.is_(None), row.claim_until <= now_ms())
