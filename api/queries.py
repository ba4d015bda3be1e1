"""The query parameters that several lists have; each raises ``QueryInvalid``, which names it.

Of a parameter that is given several times the first one counts.
"""

from collections.abc import Mapping

from provisioning import errors
from provisioning.jobs.search.time_ranges import Span, read_moment, read_past
from provisioning.state.database import Database, read_clock
from provisioning.state.formats import read_id

DEFAULT_LIMIT, HIGHEST_LIMIT = 100, 1000
#: More than any project has jobs; databases refuse larger numbers.
GREATEST_NUMBER = 10**15

Arguments = Mapping[str, str]


def read_limit(arguments: Arguments) -> int:
    """Return how many there are to be at most."""
    limit = read_number(arguments, "limit")
    if limit is None:
        return DEFAULT_LIMIT
    if not 1 <= limit <= HIGHEST_LIMIT:
        raise errors.QueryInvalid("limit", f"a number from 1 to {HIGHEST_LIMIT} is expected")
    return limit


def read_before(arguments: Arguments, kind: str) -> int | None:
    """Return the id that a page is to begin below, of what ``kind`` says."""
    text = arguments.get("before", "")
    if text and read_id(text) is None:
        raise errors.QueryInvalid("before", f"{kind} is expected")
    return read_id(text) if text else None


def read_after(arguments: Arguments) -> int:
    """Return the id of the event that the caller has already; 0 without one."""
    text = arguments.get("after", "")
    number = read_id(text)
    if text not in ("", "0") and number is None:
        raise errors.QueryInvalid("after", "the id of an event is expected")
    return number or 0


def read_number(arguments: Arguments, name: str) -> int | None:
    """Return a whole number, at most `GREATEST_NUMBER` where it has very many digits."""
    text = arguments.get(name, "")
    if not text:
        return None
    if not is_number(text):
        raise errors.QueryInvalid(name, "a whole number is expected")
    # Python refuses to read numbers of thousands of digits.
    return int(text) if len(text) <= 18 else GREATEST_NUMBER


def is_number(text: str) -> bool:
    """Return whether the text has digits alone."""
    return text.isascii() and text.isdigit()


def read_times(arguments: Arguments, database: Database) -> dict[str, int | None]:
    """Return ``since`` and ``until`` in seconds; a date alone means its whole day."""
    texts = {name: arguments.get(name, "").strip() for name in ("since", "until")}
    if not any(texts.values()):
        return {}
    with database.read() as session:
        now = read_clock(session) // 1000
    spans = {name: _read_time(name, text, now) for name, text in texts.items() if text}
    since, until = spans.get("since"), spans.get("until")
    return {"since": since.first if since else None, "until": until.last if until else None}


def _read_time(name: str, text: str, now: int) -> Span:
    span = read_moment(text) or read_past(text, now)
    if span is None:
        raise errors.QueryInvalid(name, "a date, a time or -2 days is expected")
    return span
