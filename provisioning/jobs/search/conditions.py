"""From the tree of a query to an SQL condition."""

import re
from collections.abc import Callable

from sqlalchemy import and_, false, func, not_, or_

from provisioning.errors import QueryInvalid
from provisioning.jobs.search.fields import Condition, Field, MeasuredField
from provisioning.jobs.search.language import (
    AllOf,
    AnyOf,
    Between,
    Bound,
    Equals,
    Has,
    Node,
    Not,
    StartsWith,
)
from provisioning.jobs.search.time_ranges import Span

#: Finds the field of a name; None when no field has it.
FindField = Callable[[str], Field | None]
#: Databases refuse to keep, or drivers to send, texts with these; so no value has them.
_NEVER_KEPT = re.compile("[\0\ud800-\udfff]")


def condition_of(node: Node, find_field: FindField) -> Condition:
    """Return the condition that a query means; raise ``QueryInvalid`` for a bad range."""
    match node:
        case AllOf(parts):
            return and_(*(condition_of(part, find_field) for part in parts))
        case AnyOf(parts):
            return or_(*(condition_of(part, find_field) for part in parts))
        case Not(inner):
            # A test of an absent value is NULL, and must become true here.
            return not_(func.coalesce(condition_of(inner, find_field), false()))
        case Has(name, test):
            field = find_field(name)
            if field is None:
                return false()
            if isinstance(test, Between):
                return _between(name, field, test)
            return _compare(field, test)


def _compare(field: Field, test: Equals | StartsWith) -> Condition:
    if _NEVER_KEPT.search(test.text):
        return false()
    return field.equals(test.text) if isinstance(test, Equals) else field.starts_with(test.text)


def _between(name: str, field: Field, test: Between) -> Condition:
    if test.low is None and test.high is None:
        return field.exists()
    if not isinstance(field, MeasuredField):
        raise QueryInvalid("q", f"'{name}' holds neither numbers nor dates: it has no ranges")
    low, high = (_read_bound(name, field, bound) for bound in (test.low, test.high))
    return field.within(
        low.lowest(test.low.inclusive) if low and test.low else None,
        high.highest(test.high.inclusive) if high and test.high else None,
    )


def _read_bound(name: str, field: MeasuredField, bound: Bound | None) -> Span | None:
    if bound is None:
        return None
    span = field.read_bound(bound.text)
    if span is None:
        raise QueryInvalid("q", f"'{bound.text}' cannot bound the field '{name}'")
    return span
