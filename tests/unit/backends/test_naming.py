"""Names of engine objects (contract section 10)."""

import re

from hypothesis import given
from hypothesis import strategies as st

from provisioning.backends.naming import (
    build_name,
    granted_database,
    person_name_part,
    quote_mysql_name,
)


def test_a_fitting_name_is_exactly_as_the_contract_prints_it() -> None:
    assert build_name("", "sand", "232", "1386700227", limit=64) == "sand_232_1386700227"
    assert build_name("ab1c_", "user", "4", limit=32) == "ab1c_user_4"


def test_a_long_name_is_cut_and_ends_in_a_digest() -> None:
    name = build_name("ab1c_", "tran", "9" * 40, "17", limit=32)
    assert len(name) == 32
    assert re.fullmatch(r"ab1c_tran_9+_[0-9a-f]{8}", name)


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
def test_names_are_safe_and_different_wishes_never_share_one(one: str, other: str) -> None:
    first = build_name("ab1c_", "sand", one, "5", limit=64)
    assert re.fullmatch(r"[A-Za-z0-9_]{1,64}", first)
    if one != other:
        assert first != build_name("ab1c_", "sand", other, "5", limit=64)


def test_a_person_without_an_id_is_known_by_the_token() -> None:
    assert person_name_part("4", "30680") == "4"
    assert person_name_part(None, "30680") == "t30680"


def test_no_person_id_can_look_like_another_callers_token() -> None:
    assert person_name_part("t30680", "1") != person_name_part(None, "30680")


def test_wildcards_are_escaped_in_grants_only() -> None:
    assert quote_mysql_name("w_1") == "`w_1`"
    assert granted_database("w_1%", wildcards=True) == "w\\_1\\%"
    # With partial_revokes=ON they are literal.
    assert granted_database("w_1", wildcards=False) == "w_1"


def test_a_backtick_cannot_leave_the_quotes() -> None:
    assert quote_mysql_name("a`b") == "`a``b`"
