"""The query parameters of /queue: what they are called, and what they may be (9.1.10, 9.3).

Of a parameter that is given several times the first one counts.
"""

from collections.abc import Mapping

from api.requests import cut_wait
from provisioning import errors
from provisioning.jobs.search.language import Equals, Has, Node, parse
from provisioning.jobs.search.listing import JobSearch
from provisioning.jobs.search.time_ranges import Span, read_moment, read_past
from provisioning.state.database import Database, read_clock
from provisioning.state.formats import read_id

DEFAULT_LIMIT, HIGHEST_LIMIT = 100, 1000
#: More than any project has jobs; databases refuse larger numbers.
FARTHEST_OFFSET = 10**15
#: Parameters that ask for one exact value, and the field of the record that has it.
EXACT_FIELDS = ("status", "component", "runId")

Arguments = Mapping[str, str]


def read_search(arguments: Arguments, database: Database) -> JobSearch:
    """Return what a list of jobs is to hold; raise ``QueryInvalid``, which names a parameter."""
    return JobSearch(
        limit=read_limit(arguments),
        offset=min(_read_number(arguments, "offset") or 0, FARTHEST_OFFSET),
        before=read_before(arguments, "a job id"),
        **read_times(arguments, database),
        conditions=_read_conditions(arguments),
    )


def read_wait(arguments: Arguments) -> int:
    """Return the seconds to wait for a job; more than the longest wait is cut."""
    text = arguments.get("wait", "")
    if not text:
        return 0
    if not _is_number(text):
        raise errors.QueryInvalid("wait", "a number of seconds is expected")
    return cut_wait(text)


def wants_metrics(arguments: Arguments) -> bool:
    """Return whether the records are to have ``metrics`` (contract 9.1.1)."""
    return "metrics" in arguments.get("include", "").split(",")


def read_limit(arguments: Arguments) -> int:
    """Return how many there are to be at most."""
    limit = _read_number(arguments, "limit")
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


def _read_number(arguments: Arguments, name: str) -> int | None:
    text = arguments.get(name, "")
    if not text:
        return None
    if not _is_number(text):
        raise errors.QueryInvalid(name, "a whole number is expected")
    # Python refuses to read numbers of thousands of digits.
    return int(text) if len(text) <= 18 else FARTHEST_OFFSET


def _is_number(text: str) -> bool:
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


def _read_conditions(arguments: Arguments) -> tuple[Node, ...]:
    conditions: list[Node] = [
        Has(name, Equals(arguments[name])) for name in EXACT_FIELDS if arguments.get(name)
    ]
    query = arguments.get("q", "")
    if query.strip():
        conditions.append(parse(query))
    return tuple(conditions)
