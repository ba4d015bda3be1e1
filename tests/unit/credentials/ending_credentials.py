"""Credentials in a state database that end at some time, with nothing on a server."""

from itertools import count
from typing import Any

from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials
from tests.support.waiting_jobs import Queue

DAY = 86_400_000
HOUR = 3_600_000
_numbers = count(870_001)


def credential(number: int, expires_at: int | None, **columns: Any) -> Credentials:
    """Return a live credential, touched a week before its end."""
    touched_at = (expires_at or 0) - 7 * DAY
    texts = ("project_name", "token_description", "user_name", "object_name", "secret")
    values: dict[str, Any] = {
        "backend": "mysql",
        "type": "sandbox",
        "state": CredentialsState.ACTIVE,
        "project_id": "572",
        "token_id": "30680",
        "created_at": touched_at,
        "touched_at": touched_at,
        "server": "default",
        **dict.fromkeys(texts, ""),
    }
    return Credentials(id=number, expires_at=expires_at, **{**values, **columns})


def add_credentials(queue: Queue, expires_at: int | None, **columns: Any) -> int:
    """Add a live credential, touched a week before its end, and return its id."""
    number = next(_numbers)
    with queue.installation.database.write() as session:
        session.add(credential(number, expires_at, **columns))
    return number
