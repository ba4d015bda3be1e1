"""The query language of ``q`` (contract 9.3): from text to a tree, or to an error that helps.

    query     := all ( "OR" all )*
    all       := condition ( ["AND"] condition )*
    condition := ["-"] ( "(" query ")" | name ":" value )
    value     := test | "(" test, combined as conditions are ")"
    test      := word | word "*" | "quoted" | "[" bound "TO" bound "]" | ( > | >= | < | <= ) bound

A backslash takes the character after it as it is. ``AND``, ``OR`` and ``TO`` are upper case.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from provisioning.errors import QueryInvalid
from provisioning.jobs.search.time_ranges import read_moment, read_number

#: Bounds of what one query may cost the state database.
LONGEST, MOST_CONDITIONS, DEEPEST = 4000, 200, 20

_NAME = re.compile(r"([\w.@][\w.@-]*):")
_WORD = re.compile(r'(?:\\.|[^\s()\[\]"\\])+', re.DOTALL)
_PIECE = re.compile(r"\\.|.", re.DOTALL)
_QUOTED = re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL)
_BOUND = r'("[^"]*"|[^\s()\[\]"]+)'
_RANGE = re.compile(rf"\[\s*{_BOUND}\s+TO\s+{_BOUND}\s*\]")
_COMPARISON = re.compile(rf"([<>])(=?){_BOUND}")
_OPERATOR = re.compile(r"(AND|OR)(?=[\s()]|\Z)")
_SPACE = re.compile(r"\s*")
_EXCERPT = re.compile(r"\S+")


@dataclass(frozen=True)
class Equals:
    """The value is this text."""

    text: str


@dataclass(frozen=True)
class StartsWith:
    """The value starts with this text."""

    text: str


@dataclass(frozen=True)
class Bound:
    """One end of a range: a number or a moment, as it was written."""

    text: str
    inclusive: bool


@dataclass(frozen=True)
class Between:
    """A range; an end that is None is open."""

    low: Bound | None
    high: Bound | None


Test = Equals | StartsWith | Between


@dataclass(frozen=True)
class Has:
    """A field's value passes a test; a value that is absent does not."""

    field: str
    test: Test


@dataclass(frozen=True)
class Not:
    inner: "Node"


@dataclass(frozen=True)
class AllOf:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class AnyOf:
    parts: tuple["Node", ...]


Node = Has | Not | AllOf | AnyOf


def parse(text: str) -> Node:
    """Return the tree of a query; raise ``QueryInvalid``."""
    if len(text) > LONGEST:
        raise QueryInvalid("q", f"it is longer than {LONGEST} characters")
    return _Parser(text).read()


class _Parser:
    """Reads one query from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._conditions = 0

    def read(self) -> Node:
        node = self._any_of(self._condition)
        if self._at < len(self._text):
            self._fail("')' closes nothing")
        return node

    # Combinations ---------------------------------------------------------------------

    def _any_of(self, part: Callable[[], Node]) -> Node:
        parts = [self._all_of(part)]
        while self._take_operator("OR"):
            parts.append(self._all_of(part))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all_of(self, part: Callable[[], Node]) -> Node:
        parts = [part()]
        while self._take_operator("AND") or not self._is_at_end():
            parts.append(part())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _is_at_end(self) -> bool:
        """Return whether nothing more is to be read before a ``)`` or an ``OR``."""
        return self._next() in ("", ")") or self._operator() == "OR"

    def _group(self, part: Callable[[], Node]) -> Node:
        start = self._at
        self._depth += 1
        if self._depth > DEEPEST:
            self._fail(f"more than {DEEPEST} brackets are open")
        self._at += 1
        node = self._any_of(part)
        if self._next() != ")":
            self._at = start
            self._fail("'(' is never closed")
        self._at += 1
        self._depth -= 1
        return node

    # Conditions -----------------------------------------------------------------------

    def _condition(self) -> Node:
        negated = self._next() == "-"
        self._at += negated
        node = self._group(self._condition) if self._here() == "(" else self._field()
        return Not(node) if negated else node

    def _field(self) -> Node:
        found = _NAME.match(self._text, self._at)
        if not found:
            self._fail(f"field:value is expected in place of {self._excerpt()}")
        self._at, name = found.end(), found[1]
        if self._here() == "(":
            return self._group(lambda: self._listed(name))
        return Has(name, self._test())

    def _listed(self, name: str) -> Node:
        """Read one of the values in ``field:(a OR b)``."""
        if self._next() == "(":
            return self._group(lambda: self._listed(name))
        if self._operator():
            self._fail(f"a value is expected in place of {self._excerpt()}")
        if self._here() == "-":
            self._fail("a '-' belongs before the field; a value that starts with one is quoted")
        return Has(name, self._test())

    # Tests ----------------------------------------------------------------------------

    def _test(self) -> Test:
        self._conditions += 1
        if self._conditions > MOST_CONDITIONS:
            self._fail(f"there are more than {MOST_CONDITIONS} conditions")
        match self._here():
            case '"':
                return self._quoted()
            case "[":
                return self._range()
            case "<" | ">":
                return self._comparison()
        return self._word()

    def _quoted(self) -> Test:
        found = _QUOTED.match(self._text, self._at)
        if not found:
            self._fail("the quote is never closed")
        self._at = found.end()
        return Equals("".join(piece[-1] for piece in _PIECE.findall(found[1])))

    def _word(self) -> Test:
        found = _WORD.match(self._text, self._at)
        if not found:
            self._fail(f"a value is expected in place of {self._excerpt()}")
        pieces = _PIECE.findall(found[0])
        if "*" in pieces[:-1] or pieces == ["*"]:
            self._fail("'*' may only end a value; quote one that is meant as it is")
        self._at = found.end()
        text = "".join(piece[-1] for piece in pieces)
        return StartsWith(text[:-1]) if pieces[-1] == "*" else Equals(text)

    def _range(self) -> Test:
        found = _RANGE.match(self._text, self._at)
        if not found:
            closed = "]" in self._text[self._at :]
            self._fail("[from TO to] is expected" if closed else "'[' is never closed")
        test = Between(*(self._bound(text, inclusive=True) for text in found.groups()))
        self._at = found.end()
        return test

    def _comparison(self) -> Test:
        found = _COMPARISON.match(self._text, self._at)
        if not found or found[3] == "*":
            self._fail("a number or a date is expected after the comparison")
        bound = self._bound(found[3], inclusive=bool(found[2]))
        self._at = found.end()
        return Between(bound, None) if found[1] == ">" else Between(None, bound)

    def _bound(self, text: str, *, inclusive: bool) -> Bound | None:
        if text == "*":
            return None
        text = text.strip('"')
        if read_number(text) is None and read_moment(text) is None:
            self._fail(f"'{_cut(text)}' is neither a number nor a date")
        return Bound(text, inclusive)

    # The text -------------------------------------------------------------------------

    def _here(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        """Skip space, and return the character that follows; nothing at the end."""
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._here()

    def _operator(self) -> str:
        """Return the operator that comes next, if one does."""
        self._next()
        found = _OPERATOR.match(self._text, self._at)
        return found[1] if found else ""

    def _take_operator(self, operator: str) -> bool:
        taken = self._operator() == operator
        if taken:
            self._at += len(operator)
        return taken

    def _excerpt(self) -> str:
        found = _EXCERPT.match(self._text, self._at)
        return f"'{_cut(found[0])}'" if found else "nothing"

    def _fail(self, problem: str) -> NoReturn:
        raise QueryInvalid("q", f"{problem}, at character {self._at + 1}")


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
