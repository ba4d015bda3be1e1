"""Passwords of logins that owners change, and new ones (contract 5.7), on every engine."""

from dataclasses import replace
from typing import Any

import pytest

from provisioning.backends.base import LoginBackend, LoginRefused
from provisioning.configuration.secrets import generate_password
from provisioning.state.claims import ClaimLost
from tests.backends.case import Case, lease
from tests.backends.conftest import MySQLCase, PostgresCase
from tests.support.deadlines import wait_until


def query(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def backend_of(case: Case) -> LoginBackend:
    assert hasattr(case.backend, "set_password")
    return case.backend  # type: ignore[return-value]


def own_change(case: Case, password: str) -> str:
    """Return how a login changes its own password; the simulated Snowflake takes no such change."""
    if isinstance(case, MySQLCase):
        return f"SET PASSWORD = PASSWORD('{password}')"
    return f"ALTER ROLE CURRENT_USER PASSWORD '{password}'"


def test_a_new_password_replaces_the_old_one_and_sessions_stay(case: Case) -> None:
    backend = backend_of(case)
    spec, old = case.made()
    new = generate_password()
    with case.session(spec, old) as connection:
        backend.set_password(spec, new, lease(token=2), end_sessions=False)
        assert query(connection, "SELECT 1") == [(1,)]
    assert backend.lets_in(spec, new)
    assert not backend.lets_in(spec, old)
    with case.session(spec, new) as connection:
        query(connection, "CREATE TABLE t (a INT)")
    # Again, as after a process that died behind the server's answer.
    backend.set_password(spec, new, lease(token=3), end_sessions=False)
    assert backend.lets_in(spec, new)


def test_sessions_end_with_the_old_password_where_that_is_asked_for(case: Case) -> None:
    backend = backend_of(case)
    spec, old = case.made()
    with case.session(spec, old) as connection:
        query(connection, "SELECT 1")
        backend.set_password(spec, generate_password(), lease(token=2), end_sessions=True)
        with pytest.raises(case.error):
            query(connection, "SELECT 1")
    wait_until(lambda: not backend.in_use(spec), what="no session left")


@pytest.mark.parametrize(
    "case", ["mysql transformations", "mysql sandbox", "postgresql writer"], indirect=True
)
def test_an_owners_own_change_is_seen_and_mended(case: Case) -> None:
    backend = backend_of(case)
    spec, password = case.made()
    assert backend.lets_in(spec, password)
    with case.session(spec, password) as connection:
        query(connection, own_change(case, "Changed-by-me-1"))
    assert not backend.lets_in(spec, password)
    backend.set_password(spec, password, lease(token=2), end_sessions=False)
    assert backend.lets_in(spec, password)
    case.connect(spec, password).close()


@pytest.mark.parametrize("case", ["postgresql writer"], indirect=True)
def test_an_owners_open_change_does_not_hold_up_a_new_password(case: PostgresCase) -> None:
    backend = backend_of(case)
    spec, old = case.made()
    with case.session(spec, old, autocommit=False) as connection:
        query(connection, own_change(case, "Never-committed-1"))
        new = generate_password()
        backend.set_password(spec, new, lease(token=2), end_sessions=False)
        with pytest.raises(case.error):
            query(connection, "SELECT 1")
    assert backend.lets_in(spec, new)


def test_a_holder_whose_claim_ran_out_sets_no_password(case: Case) -> None:
    backend = backend_of(case)
    spec, password = case.made()
    with pytest.raises(ClaimLost):
        backend.set_password(spec, generate_password(), lease(seconds=-1), end_sessions=True)
    assert backend.lets_in(spec, password)


@pytest.mark.parametrize("case", ["mysql sandbox"], indirect=True)
def test_another_sandbox_of_a_person_leaves_the_password_of_their_login(case: MySQLCase) -> None:
    backend = backend_of(case)
    first, password = case.made(person="7")
    second = case.spec(person="7")
    with pytest.raises(LoginRefused):
        backend.create(second, generate_password(), lease())
    assert backend.lets_in(first, password)
    assert backend.lets_in(second, password)
    case.connect(second, password).close()


@pytest.mark.parametrize("case", ["mysql transformations", "postgresql writer"], indirect=True)
def test_a_login_whose_connections_are_all_taken_is_in_step(case: Case) -> None:
    backend = backend_of(case)
    spec, password = case.made()
    if isinstance(case, MySQLCase):
        account = f"`{spec.user_name}`@'%'"
        case.admin(f"ALTER USER {account} WITH MAX_USER_CONNECTIONS 1")
    else:
        case.admin(f'ALTER USER "{spec.user_name}" CONNECTION LIMIT 1')
    with case.session(spec, password):
        assert backend.lets_in(spec, password)
        assert not backend.lets_in(spec, generate_password())


@pytest.mark.parametrize("case", ["postgresql writer"], indirect=True)
def test_a_new_password_leaves_the_end_that_an_extend_has_moved(case: PostgresCase) -> None:
    backend = backend_of(case)
    spec, _ = case.made()
    backend.prolong(replace(spec, expires_at=4_000_000_000_000))
    before = case.admin("SELECT valuntil FROM pg_user WHERE usename = %s", spec.user_name)
    early = replace(spec, expires_at=2_000_000_000_000)
    backend.set_password(early, generate_password(), lease(token=2), end_sessions=False)
    assert before == case.admin("SELECT valuntil FROM pg_user WHERE usename = %s", spec.user_name)
