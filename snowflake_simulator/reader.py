"""Reads statements of administration, token by token."""

from collections.abc import Callable, Mapping, Sequence

from snowflake_simulator import errors
from snowflake_simulator.errors import SnowflakeError
from snowflake_simulator.lexer import Token, string_value, tokenize
from snowflake_simulator.names import ObjectName

#: A property's value: text, whole number, truth value, list of texts, or NULL.
Value = str | int | bool | list[str] | None
_LITERALS: Mapping[str, Value] = {"TRUE": True, "FALSE": False, "NULL": None}


class Reader:
    """A position in the tokens of one statement."""

    def __init__(self, sql: str, tokens: Sequence[Token] | None = None) -> None:
        self.sql = sql
        self._tokens = tokenize(sql) if tokens is None else tokens
        self._position = 0

    def peek(self, offset: int = 0) -> Token:
        return self._tokens[min(self._position + offset, len(self._tokens) - 1)]

    def next(self) -> Token:
        token = self.peek()
        self._position += 1
        return token

    def at(self, phrase: str) -> bool:
        """Whether the next tokens are these words or symbols."""
        return all(
            self.peek(offset).is_word(word) or self.peek(offset).is_symbol(word)
            for offset, word in enumerate(phrase.split())
        )

    def accept(self, *phrases: str) -> str | None:
        """Read and return the first of the phrases that stands here."""
        for phrase in phrases:
            if self.at(phrase):
                self._position += len(phrase.split())
                return phrase
        return None

    def expect(self, *phrases: str) -> str:
        accepted = self.accept(*phrases)
        if accepted is None:
            raise self.unexpected()
        return accepted

    def unexpected(self) -> SnowflakeError:
        token = self.peek()
        return errors.syntax_error(token.start, token.text or "<EOF>")

    def word(self) -> str:
        """Read any word, in upper case."""
        if self.peek().kind != "word":
            raise self.unexpected()
        return self.next().text.upper()

    def name(self) -> str:
        """Read one part of a name and return it as it is stored."""
        if self.peek().kind == "quoted":
            return self.next().text[1:-1].replace('""', '"')
        return self.word()

    def object_name(self) -> ObjectName:
        """Read a name with its containers, as in ``db.schema.table``."""
        if self.accept("IDENTIFIER ("):
            inner = Reader(self.string())
            name = inner.object_name()
            inner.end()
            self.expect(")")
            return name
        parts = [self.name()]
        while self.accept("."):
            parts.append(self.name())
        return tuple(parts)

    def plain_name(self) -> str:
        """Read a name that has no containers: a user, role, warehouse or database."""
        name = self.object_name()
        if len(name) != 1:
            raise self.unexpected()
        return name[0]

    def string(self) -> str:
        if self.peek().kind != "string":
            raise self.unexpected()
        return string_value(self.next().text)

    def integer(self) -> int:
        sign = -1 if self.accept("-") else 1
        token = self.peek()
        if token.kind != "number" or not token.text.isdigit():
            raise self.unexpected()
        return sign * int(self.next().text)

    def value(self) -> Value:
        """Read a property's value; names fold, and may have containers."""
        token = self.peek()
        if token.kind == "string":
            return self.string()
        if token.kind == "number" or token.is_symbol("-"):
            return self.integer()
        if token.is_symbol("("):
            return self.listed(self.string)
        if token.kind == "word" and token.text.upper() in _LITERALS:
            return _LITERALS[self.word()]
        return ".".join(self.object_name())

    def listed(self, item: Callable[[], str]) -> list[str]:
        """Read ``(a, b)``, which may be empty."""
        self.expect("(")
        items = []
        while not self.accept(")"):
            items.append(item())
            if not self.at(")"):
                self.expect(",")
        return items

    def properties(self) -> dict[str, Value]:
        """Read ``KEY = value`` pairs, with or without commas between them."""
        found: dict[str, Value] = {}
        while self.peek().kind == "word" and self.peek(1).is_symbol("="):
            key = self.word()
            self.expect("=")
            found[key] = self.value()
            self.accept(",")
        return found

    @property
    def ended(self) -> bool:
        return self.peek().kind == "end"

    def end(self) -> None:
        """Make sure that nothing is left of the statement."""
        self.accept(";")
        if not self.ended:
            raise self.unexpected()
