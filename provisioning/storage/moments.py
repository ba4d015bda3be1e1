"""Moments as callers of the Storage API write them."""

import re
from datetime import UTC, datetime, timedelta

_PERIOD = re.compile(
    r"([+-]?[0-9]{1,9})\s*(second|sec|minute|min|hour|day|week|month|year)s?(\s+ago)?", re.I
)
#: A month and a year are taken as so many days.
_UNITS = {
    "second": timedelta(seconds=1),
    "sec": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
}


def read_moment(text: str, now: datetime) -> datetime:
    """Return the moment of an ISO date-time, a Unix time or a period from now like ``-7 days``.

    Without an offset it is in UTC. Raises ``ValueError``.
    """
    text = text.strip()
    try:
        period = _PERIOD.fullmatch(text)
        if period:
            number = int(period[1]) * (-1 if period[3] else 1)
            return now + number * _UNITS[period[2].lower()]
        if re.fullmatch(r"[0-9]{9,12}", text):
            return datetime.fromtimestamp(int(text), UTC)
    except OverflowError:
        raise ValueError(f"'{text}' is too far away") from None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
