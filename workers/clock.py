"""The time of the last sweep, kept at the broker, where a restore of the state does not reach.

Only brokers of Redis's kind keep keys; of others nothing is learned, nor of one that is away.
"""

from typing import Any

from workers.app import app


def read_clock(code: str) -> int | None:
    """Return the time the broker keeps for the installation, in milliseconds, if it does."""
    value = _ask("get", _key(code))
    return int(value) if value and value.isdigit() else None


def keep_clock(code: str, time: int) -> None:
    """Have the broker keep the time."""
    _ask("set", _key(code), time)


def _key(code: str) -> str:
    return f"provisioning:{code}:clock"


def _ask(command: str, *values: Any) -> Any:
    try:
        with app.pool.acquire(block=True) as connection, connection.channel() as channel:
            if connection.transport.driver_type != "redis":
                return None
            return getattr(channel.client, command)(*values)
    except Exception:  # every transport has its own errors; whoever sends messages logs them
        return None
