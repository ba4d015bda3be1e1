"""Tokens and tickets as the Storage API words them."""

from dataclasses import dataclass
from typing import Any

VERIFY = "/v2/storage/tokens/verify"
TICKETS = "/v2/storage/tickets"


@dataclass(frozen=True)
class Ticket:
    """A number that was given out, and what it was asked with."""

    number: int
    token: str
    run_id: str | None


def token_details(
    token_id: str | int = "30680", project_id: str | int = 572, **changes: Any
) -> dict[str, Any]:
    """Return the answer for a good token of a person, as the Storage API words it."""
    owner = {
        "id": project_id,
        "name": f"Project {project_id}",
        "features": [],
        "hasMysql": True,
        "hasRedshift": True,
        "hasSnowflake": True,
        "isDisabled": False,
        "limits": {"components.jobsParallelism": {"name": "x", "value": 10}},
        **changes.pop("owner", {}),
    }
    return {
        "id": token_id,
        "token": "never read",
        "description": f"token {token_id}",
        "isDisabled": False,
        "isExpired": False,
        "expires": None,
        "admin": {"id": 4, "name": "Somebody"},
        "owner": owner,
        **changes,
    }
