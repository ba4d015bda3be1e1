"""The time of the last sweep, kept at the broker, where a restore of the state does not reach.

Only brokers of Redis's kind keep keys; of others nothing is learned, nor of one that is away.
"""

from contextlib import suppress

from workers.broker import BrokerUnavailable
from workers.messages import broker


def read_clock(code: str) -> int | None:
    """Return the time the broker keeps for the installation, in milliseconds, if it does."""
    value = None
    with suppress(BrokerUnavailable):
        value = broker.read(_key(code))
    return int(value) if value and value.isdigit() else None


def keep_clock(code: str, time: int) -> None:
    """Have the broker keep the time."""
    with suppress(BrokerUnavailable):
        broker.keep(_key(code), time)


def _key(code: str) -> str:
    return f"provisioning:{code}:clock"
