"""The query parameters of /queue: what they are called, and what they may be (9.1.10, 9.3).

Of a parameter that is given several times the first one counts.
"""

from api.queries import (
    GREATEST_NUMBER,
    Arguments,
    is_number,
    read_before,
    read_limit,
    read_number,
    read_times,
)
from api.requests import cut_wait
from provisioning import errors
from provisioning.jobs.search.language import Equals, Has, Node, parse
from provisioning.jobs.search.listing import JobSearch
from provisioning.state.database import Database

#: Parameters that ask for one exact value, and the field of the record that has it.
EXACT_FIELDS = ("status", "component", "runId")


def read_search(arguments: Arguments, database: Database) -> JobSearch:
    """Return what a list of jobs is to hold; raise ``QueryInvalid``, which names a parameter."""
    return JobSearch(
        limit=read_limit(arguments),
        offset=min(read_number(arguments, "offset") or 0, GREATEST_NUMBER),
        before=read_before(arguments, "a job id"),
        **read_times(arguments, database),
        conditions=_read_conditions(arguments),
    )


def read_wait(arguments: Arguments) -> int:
    """Return the seconds to wait for a job; more than the longest wait is cut."""
    text = arguments.get("wait", "")
    if not text:
        return 0
    if not is_number(text):
        raise errors.QueryInvalid("wait", "a number of seconds is expected")
    return cut_wait(text)


def wants_metrics(arguments: Arguments) -> bool:
    """Return whether the records are to have ``metrics`` (contract 9.1.1)."""
    return "metrics" in arguments.get("include", "").split(",")


def _read_conditions(arguments: Arguments) -> tuple[Node, ...]:
    conditions: list[Node] = [
        Has(name, Equals(arguments[name])) for name in EXACT_FIELDS if arguments.get(name)
    ]
    query = arguments.get("q", "")
    if query.strip():
        conditions.append(parse(query))
    return tuple(conditions)
