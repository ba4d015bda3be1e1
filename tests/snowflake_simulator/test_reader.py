"""Tokens and the reading of statements."""

import pytest

from snowflake_simulator.errors import SnowflakeError
from snowflake_simulator.lexer import (
    string_literal,
    string_value,
    tokenize,
    without_secrets,
)
from snowflake_simulator.names import like, show
from snowflake_simulator.reader import Reader


def test_comments_and_blanks_are_no_tokens() -> None:
    tokens = tokenize("SELECT /* x */ 'a--b' -- y\n // z\n ;")
    assert [token.text for token in tokens] == ["SELECT", "'a--b'", ";", ""]


@pytest.mark.parametrize("value", ["", "a", "it's", "back\\slash", "é", "--", "'"])
def test_literals_keep_their_value(value: str) -> None:
    [token, _] = tokenize(string_literal(value))
    assert string_value(token.text) == value


def test_names_fold_unless_quoted() -> None:
    assert Reader('db."Sch""ema".t').object_name() == ("DB", 'Sch"ema', "T")
    assert Reader("IDENTIFIER('db.s')").object_name() == ("DB", "S")
    assert show(("DB", 'Sch"ema')) == 'DB."Sch""ema"'


def test_properties() -> None:
    reader = Reader("A = 'x', b=12 C = TRUE d = NULL e = (' f', 'g') h = some.name")
    assert reader.properties() == {
        "A": "x",
        "B": 12,
        "C": True,
        "D": None,
        "E": [" f", "g"],
        "H": "SOME.NAME",
    }
    assert reader.ended


def test_what_is_left_over_is_an_error() -> None:
    reader = Reader("DROP USER u nonsense")
    reader.expect("DROP USER")
    reader.plain_name()
    with pytest.raises(SnowflakeError, match="001003"):
        reader.end()


def test_patterns_of_like() -> None:
    assert like("a%_c").fullmatch("Axyzc")
    assert not like(r"a\_c").fullmatch("abc")
    assert like(r"a\_c").fullmatch("A_C")
    assert not like("a.c").fullmatch("abc")


def test_passwords_are_starred() -> None:
    sql = "ALTER USER u SET PASSWORD = 'it''s', COMMENT = 'PASSWORD'"
    starred = without_secrets(sql, tokenize(sql))
    assert starred == "ALTER USER u SET PASSWORD = '***', COMMENT = 'PASSWORD'"
