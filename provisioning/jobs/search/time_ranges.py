"""Numbers and moments as callers write them in queries (contract 9.3)."""

import calendar
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_MOMENT = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"([T ](?P<minute>[0-9]{2}:[0-9]{2})(?P<second>:[0-9]{2}([.,][0-9]{1,6})?)?"
    r"(?P<zone>Z|[+ -][0-9]{2}:?[0-9]{2})?)?"
)
_PAST = re.compile(
    r"-([0-9]+)\s*(second|minute|hour|day|week|month|year)s?", re.IGNORECASE | re.ASCII
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_UNIT_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_UNIT_MONTHS = {"month": 1, "year": 12}
#: Digits of the longest age that is read; older than any job.
_AGE_DIGITS = 9


@dataclass(frozen=True)
class Span:
    """The whole numbers that a written value stands for, both ends included.

    A date stands for the seconds of its day. A fraction stands for none: ``first`` is the whole
    number above it and ``last`` the one below, so that comparisons with it come out right.
    """

    first: int
    last: int

    def lowest(self, inclusive: bool) -> int:
        """Return the least number that is not below the span, or that is above it."""
        return self.first if inclusive else self.last + 1

    def highest(self, inclusive: bool) -> int:
        """Return the greatest number that is not above the span, or that is below it."""
        return self.last if inclusive else self.first - 1


def read_number(text: str) -> Span | None:
    """Return a decimal number as a span of whole ones; None when it is no number."""
    if not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    return Span(math.ceil(number), math.floor(number))


def read_moment(text: str) -> Span | None:
    """Return the seconds since 1970 of an ISO date or date-time; None when it is neither.

    A time without a zone is UTC. Before the zone's digits a space counts as the plus that it
    was before it went through a URL.
    """
    found = _MOMENT.fullmatch(text)
    if not found:
        return None
    zone = (found["zone"] or "Z").replace(" ", "+")
    clock = f"{found['minute'] or '00:00'}{found['second'] or ':00'}"
    try:
        moment = datetime.fromisoformat(f"{found['day']}T{clock}{zone}")
    except ValueError:
        return None
    whole, rest = divmod(moment - _EPOCH, _SECOND)
    if rest:
        return Span(whole + 1, whole)
    return Span(whole, whole + _precision(found) - 1)


def _precision(found: re.Match[str]) -> int:
    """Return the seconds that the last written part of a moment lasts."""
    if found["second"]:
        return 1
    return 60 if found["minute"] else 86_400


def read_past(text: str, now: int) -> Span | None:
    """Return the second that ``-2 days`` means at ``now``; None when it is of another form.

    A month ago is the same day of the month before, or its last day.
    """
    found = _PAST.fullmatch(text)
    if not found:
        return None
    digits, unit = found[1].lstrip("0"), found[2].lower()
    if len(digits) > _AGE_DIGITS:
        return Span(0, 0)
    count = int(digits or "0")
    if unit in _UNIT_SECONDS:
        second = now - count * _UNIT_SECONDS[unit]
    else:
        second = _months_before(now, count * _UNIT_MONTHS[unit])
    return Span(second, second)


def _months_before(now: int, months: int) -> int:
    moment = _EPOCH + timedelta(seconds=now)
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    if year < 1:
        return 0
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return (moment.replace(year=year, month=month + 1, day=day) - _EPOCH) // _SECOND
