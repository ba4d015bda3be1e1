"""Splits SQL text into tokens."""

import re
from dataclasses import dataclass

from snowflake_simulator import errors

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*|//[^\n]*|/\*.*?\*/)
    |(?P<string>'(?:[^'\\]|\\.|'')*'|\$\$.*?\$\$)
    |(?P<quoted>"(?:[^"]|"")+")
    |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<word>[A-Za-z_][A-Za-z0-9_$]*)
    |(?P<symbol>=>|::|<>|!=|<=|>=|\|\||->|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)|''", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}
#: What stands in the log in place of a secret.
STARS = "'***'"


@dataclass(frozen=True)
class Token:
    """A piece of SQL. ``kind`` is string, quoted, number, word, symbol or end."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word

    def is_symbol(self, symbol: str) -> bool:
        return self.kind == "symbol" and self.text == symbol


def tokenize(sql: str) -> list[Token]:
    """Return the tokens of a text, comments left out; the last one has the kind ``end``."""
    tokens = []
    for match in _TOKEN.finditer(sql):
        kind = str(match.lastgroup)
        if kind == "symbol" and match.group() in "'\"":
            raise errors.syntax_error(match.start(), match.group())
        if kind != "space":
            tokens.append(Token(kind, match.group(), match.start()))
    tokens.append(Token("end", "", len(sql)))
    return tokens


def string_value(text: str) -> str:
    """Return what a string literal stands for."""
    if text.startswith("$$"):
        return text[2:-2]
    return _ESCAPE.sub(
        lambda match: _ESCAPED.get(match[1], match[1]) if match[1] else "'", text[1:-1]
    )


def string_literal(value: str) -> str:
    """Return a literal that stands for a value."""
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def splice(sql: str, replacements: list[tuple[Token, str]]) -> str:
    """Return the text with some tokens, given in order, replaced."""
    pieces = []
    position = 0
    for token, replacement in replacements:
        pieces += [sql[position : token.start], replacement]
        position = token.end
    return "".join([*pieces, sql[position:]])


def without_secrets(sql: str, tokens: list[Token]) -> str:
    """Return the text with the values of passwords starred."""
    secrets = [
        (value, STARS)
        for key, equals, value in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if key.is_word("PASSWORD") and equals.is_symbol("=") and value.kind in ("string", "quoted")
    ]
    return splice(sql, secrets)
