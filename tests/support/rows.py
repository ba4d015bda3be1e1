"""Rows of credentials whose objects nobody looks at."""

from itertools import count
from typing import Any

from provisioning.state.database import Database, read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials

HOUR = 3_600_000
_numbers = count(5_000_001)


def add_credentials(
    database: Database, amount: int = 1, *, age: int = 0, **values: Any
) -> list[int]:
    """Record credentials that were touched ``age`` milliseconds ago; return their ids."""
    numbers = [next(_numbers) for _ in range(amount)]
    with database.write() as session:
        touched_at = read_clock(session) - age
        for number in numbers:
            row = {
                "backend": "mysql",
                "type": "sandbox",
                "state": CredentialsState.ACTIVE,
                "slot": f"{number}:mysql:sandbox",
                "project_id": "70",
                "project_name": "Project 70",
                "token_id": str(number),
                "token_description": "owner",
                "server": "default",
                "user_name": "u",
                "object_name": "o",
                "secret": "",
                "created_at": touched_at,
                "touched_at": touched_at,
            }
            session.add(Credentials(id=number, **{**row, **values}))
    return numbers
