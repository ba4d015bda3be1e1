"""What a field's values are compared with. A value compares as the record prints it."""

import json
import re
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    SQLColumnExpression,
    String,
    and_,
    case,
    cast,
    false,
    func,
    or_,
)

from provisioning.jobs.search.expressions import exact, json_at
from provisioning.jobs.search.time_ranges import Span, read_moment, read_number
from provisioning.state.formats import format_time

Condition = ColumnElement[bool]

#: The integers that the databases have.
_LEAST, _GREATEST = -(2**63), 2**63 - 1
#: A whole number as it is printed, no longer than the databases' are.
_PRINTED = re.compile("0|-?[1-9][0-9]{0,18}")
#: The second after the last one that is printed with a year of four digits.
_END_OF_TIME = 253_402_300_800
#: A whole number in JSON, also as a text; short enough for every database's integers.
_JSON_INTEGER = '^("-?[0-9]{1,18}"|-?[0-9]{1,18})$'


class Field(ABC):
    """What can be asked of every field. A value that is absent fails every test."""

    @abstractmethod
    def equals(self, text: str) -> Condition: ...

    @abstractmethod
    def starts_with(self, text: str) -> Condition: ...

    @abstractmethod
    def exists(self) -> Condition: ...


class MeasuredField(Field):
    """A field of numbers or moments, which has ranges."""

    @abstractmethod
    def read_bound(self, text: str) -> Span | None:
        """Return what a range's end means; None when this field has none of its kind."""

    @abstractmethod
    def within(self, low: int | None, high: int | None) -> Condition:
        """Return whether the value is in a range, both ends included; None is open."""


@dataclass(frozen=True)
class ChoiceField(Field):
    """A field with few values, each printed when its condition holds."""

    values: Mapping[str, Condition]

    def equals(self, text: str) -> Condition:
        return self.values.get(text, false())

    def starts_with(self, text: str) -> Condition:
        return or_(
            false(), *(self.values[value] for value in self.values if value.startswith(text))
        )

    def exists(self) -> Condition:
        return or_(false(), *self.values.values())


@dataclass(frozen=True)
class TextField(Field):
    value: SQLColumnExpression[Any]

    def equals(self, text: str) -> Condition:
        return exact(self.value) == text

    def starts_with(self, text: str) -> Condition:
        # SQLite's LIKE does not tell upper from lower case.
        return TextField(func.substr(self.value, 1, len(text))).equals(text)

    def exists(self) -> Condition:
        return self.value.is_not(None)


@dataclass(frozen=True)
class NumberField(MeasuredField):
    """A field of whole numbers."""

    value: SQLColumnExpression[Any]

    def equals(self, text: str) -> Condition:
        # The record prints neither 05 nor 5.0.
        return self.within(int(text), int(text)) if _PRINTED.fullmatch(text) else false()

    def read_bound(self, text: str) -> Span | None:
        return read_number(text)

    def within(self, low: int | None, high: int | None) -> Condition:
        low = _LEAST if low is None else low
        high = _GREATEST if high is None else high
        if low > min(high, _GREATEST) or high < _LEAST:
            return false()
        if low == high:
            return self.value == low
        return and_(self.value >= max(low, _LEAST), self.value <= min(high, _GREATEST))

    def starts_with(self, text: str) -> Condition:
        return TextField(cast(self.value, String)).starts_with(text)

    def exists(self) -> Condition:
        return self.value.is_not(None)


@dataclass(frozen=True)
class MomentField(MeasuredField):
    """A field of times, kept in milliseconds and printed in seconds."""

    value: SQLColumnExpression[Any]

    def equals(self, text: str) -> Condition:
        """Compare with a day, a minute or a second, all of it."""
        span = read_moment(text)
        return self.within(span.first, span.last) if span else false()

    def read_bound(self, text: str) -> Span | None:
        return read_moment(text)

    def within(self, low: int | None, high: int | None) -> Condition:
        return NumberField(self.value).within(
            None if low is None else low * 1000, None if high is None else high * 1000 + 999
        )

    def starts_with(self, text: str) -> Condition:
        """Find the seconds whose print starts so; times and their prints have one order."""
        seconds = range(_END_OF_TIME)
        first = bisect_left(seconds, text, key=_print_second)
        behind = bisect_left(seconds, text + "\U0010ffff", key=_print_second)
        return self.within(first, behind - 1)

    def exists(self) -> Condition:
        return self.value.is_not(None)


def _print_second(second: int) -> str:
    return str(format_time(second * 1000))


class ParameterField(MeasuredField):
    """A scalar somewhere in a JSON column; numbers are such as texts too, as ids are."""

    def __init__(self, column: SQLColumnExpression[Any], path: tuple[str, ...]) -> None:
        self._json = json_at(column, path)

    def read_bound(self, text: str) -> Span | None:
        return read_number(text)

    def equals(self, text: str) -> Condition:
        written = {json.dumps(text), json.dumps(text, ensure_ascii=False), *_literal(text)}
        return or_(*(TextField(self._json).equals(value) for value in sorted(written)))

    def starts_with(self, text: str) -> Condition:
        written = {json.dumps(text)[:-1], json.dumps(text, ensure_ascii=False)[:-1]}
        starts = sorted(written.union(_literal(text)))
        return or_(*(TextField(self._json).starts_with(value) for value in starts))

    def within(self, low: int | None, high: int | None) -> Condition:
        digits = func.replace(self._json, '"', "")
        number = case((self._json.regexp_match(_JSON_INTEGER), cast(digits, BigInteger)))
        return NumberField(number).within(low, high)

    def exists(self) -> Condition:
        return func.substr(self._json, 1, 1).not_in(["{", "[", "n"])


def _literal(text: str) -> set[str]:
    """Return the text if a number or a boolean may be, or start, so in JSON."""
    return {text} if text[:1] and text[0] in "-0123456789tf" else set()
