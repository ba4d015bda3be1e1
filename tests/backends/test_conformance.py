"""What every backend must do, on a real server (architecture: a backend)."""

import threading
from dataclasses import replace
from typing import Any

import pymysql
import pytest

from devstack.processes import wait_until
from provisioning.backends.base import EngineUnavailable, NameInUse
from provisioning.claims import ClaimLost
from provisioning.vault import generate_password
from tests.backends.conftest import Case, lease


def query(connection: Any, sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


# Create ---------------------------------------------------------------------------------


def test_a_created_login_can_make_and_read_tables(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password) as connection:
        query(connection, "CREATE TABLE t (a INT)")
        query(connection, "INSERT INTO t VALUES (42)")
        assert query(connection, "SELECT a FROM t") == ((42,),)


def test_a_repeated_create_finishes_and_sets_the_password_again(case: Case) -> None:
    spec, _ = case.made()
    password = generate_password()
    case.backend.create(spec, password, lease(token=2))
    with case.session(spec, password) as connection:
        assert query(connection, "SELECT 1") == ((1,),)


@pytest.mark.parametrize("missing", ["grant", "login and grant", "everything"])
def test_a_half_made_object_is_finished(case: Case, missing: str) -> None:
    spec, password = case.made()
    if missing == "everything":
        case.backend.drop(spec, lease())
    elif missing == "grant":
        escaped = spec.object_name.replace("_", "\\_")
        case.admin(f"REVOKE ALL ON `{escaped}`.* FROM `{spec.user_name}`@`%`")
    else:
        case.admin(f"DROP USER `{spec.user_name}`@`%`")
    case.backend.create(spec, password, lease(token=2))
    with case.session(spec, password) as connection:
        query(connection, "CREATE TABLE t (a INT)")


def test_a_name_somebody_else_uses_is_left_alone(case: Case) -> None:
    spec = case.spec()
    case.admin(f"CREATE DATABASE `{spec.object_name}`")
    case.admin(f"CREATE TABLE `{spec.object_name}`.theirs (a INT)")
    with pytest.raises(NameInUse):
        case.backend.create(spec, generate_password(), lease(token=1))
    assert case.admin(f"SELECT COUNT(*) FROM `{spec.object_name}`.theirs") == [(0,)]
    assert case.admin("SELECT 1 FROM mysql.global_priv WHERE User = %s", spec.user_name) == []
    case.admin(f"DROP DATABASE `{spec.object_name}`")


# Rights ---------------------------------------------------------------------------------


def test_a_login_reaches_no_other_database_not_even_by_wildcard(case: Case) -> None:
    spec, password = case.made()
    # An unescaped underscore in the grant would open this one.
    lookalike = spec.object_name.replace("_", "x")
    case.admin(f"CREATE DATABASE `{lookalike}`")
    other, _ = case.made()
    with case.session(spec, password) as connection:
        for database in (lookalike, other.object_name, "mysql"):
            with pytest.raises(pymysql.Error) as refused:
                query(connection, f"CREATE TABLE `{database}`.t (a INT)")
            assert refused.value.args[0] in (1044, 1142)
        visible = {row[0] for row in query(connection, "SHOW DATABASES")}
        assert visible == {spec.object_name, "information_schema"}
    case.admin(f"DROP DATABASE `{lookalike}`")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE DATABASE mine_alone",
        "CREATE USER mallory IDENTIFIED BY 'x'",
        "GRANT SELECT ON *.* TO CURRENT_USER",
        "SET GLOBAL max_connections = 1",
        "SELECT * FROM mysql.global_priv",
    ],
)
def test_a_login_has_no_rights_on_the_server(case: Case, statement: str) -> None:
    spec, password = case.made()
    with case.session(spec, password) as connection, pytest.raises(pymysql.Error) as refused:
        query(connection, statement)
    assert refused.value.args[0] in (1044, 1045, 1142, 1227, 1410)


# Look -----------------------------------------------------------------------------------


def test_exists_tells_a_complete_credential_from_one_with_a_part_gone(case: Case) -> None:
    spec, password = case.made()
    assert case.backend.exists(spec)
    case.admin(f"DROP DATABASE `{spec.object_name}`")
    assert not case.backend.exists(spec)
    case.backend.create(spec, password, lease(token=2))
    assert case.backend.exists(spec)
    case.admin(f"DROP USER `{spec.user_name}`@`%`")
    assert not case.backend.exists(spec)
    # The login of another credential of the person may come back without this grant.
    case.admin(f"CREATE USER `{spec.user_name}`@`%`")
    assert not case.backend.exists(spec)
    case.backend.create(spec, password, lease(token=2))
    case.admin(f"ALTER USER `{spec.user_name}`@`%` ACCOUNT LOCK")
    assert not case.backend.exists(spec)
    case.backend.create(spec, password, lease(token=2))
    with case.session(spec, password):
        pass


def test_in_use_follows_open_connections(case: Case) -> None:
    spec, password = case.made()
    assert case.backend.in_use(spec) is False
    with case.session(spec, password):
        assert case.backend.in_use(spec) is True
    wait_until(lambda: not case.backend.in_use(spec), timeout=2, what="not in use")


# Kill -----------------------------------------------------------------------------------


def test_kill_ends_sessions_and_keeps_the_credential_and_its_data(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password) as first, case.session(spec, password) as second:
        query(first, "CREATE TABLE t (a INT)")
        assert case.backend.kill(spec, lease()) == 2
        for connection in (first, second):
            with pytest.raises(pymysql.Error):
                query(connection, "SELECT 1")
    with case.session(spec, password) as again:
        assert query(again, "SELECT COUNT(*) FROM t") == ((0,),)


def test_kill_ends_a_running_statement(case: Case) -> None:
    spec, password = case.made()
    ended = []

    def sleep_long() -> None:
        try:
            query(connection, "SELECT SLEEP(30)")
        except pymysql.Error as error:
            ended.append(error)

    with case.session(spec, password) as connection:
        running = threading.Thread(target=sleep_long)
        running.start()
        wait_until(
            lambda: case.admin(
                "SELECT 1 FROM information_schema.processlist WHERE user = %s AND info LIKE %s",
                spec.user_name,
                "SELECT SLEEP%",
            ),
            timeout=5,
            what="the statement runs",
        )
        assert case.backend.kill(spec, lease()) == 1
        running.join(5)
    assert len(ended) == 1


def test_kill_of_nothing_is_fine(case: Case) -> None:
    spec, _ = case.made()
    assert case.backend.kill(spec, lease()) == 0


# Drop -----------------------------------------------------------------------------------


def test_drop_leaves_nothing_and_nobody(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password) as connection:
        query(connection, "CREATE TABLE t (a INT)")
        case.backend.drop(spec, lease())
        with pytest.raises(pymysql.Error):
            query(connection, "SELECT 1")
    assert case.remains(spec) == []
    assert case.login_remains(spec) == []
    with pytest.raises(pymysql.Error) as refused:
        case.connect(spec, password)
    assert refused.value.args[0] == 1045


def test_drop_ends_an_open_transaction_that_holds_a_table(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password, autocommit=False) as connection:
        query(connection, "CREATE TABLE t (a INT)")
        query(connection, "INSERT INTO t VALUES (1)")
        case.backend.drop(spec, lease())
    assert case.remains(spec) == []


def test_drop_removes_views_routines_and_events(case: Case) -> None:
    spec, password = case.made()
    with case.session(spec, password) as connection:
        for statement in (
            "CREATE TABLE t (a INT)",
            "CREATE VIEW v AS SELECT * FROM t",
            "CREATE PROCEDURE p() SELECT 1",
            "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = 1",
        ):
            query(connection, statement)
    case.backend.drop(spec, lease())
    assert case.remains(spec) == []


def test_drop_of_what_is_missing_succeeds(case: Case) -> None:
    spec, _ = case.made()
    case.backend.drop(spec, lease())
    case.backend.drop(spec, lease())
    case.backend.drop(case.spec(), lease())


@pytest.mark.parametrize("gone", ["database", "user"])
def test_drop_finishes_what_was_removed_by_hand(case: Case, gone: str) -> None:
    spec, _ = case.made()
    if gone == "database":
        case.admin(f"DROP DATABASE `{spec.object_name}`")
    else:
        case.admin(f"DROP USER `{spec.user_name}`@`%`")
    case.backend.drop(spec, lease())
    assert case.remains(spec) == []


# Leases ---------------------------------------------------------------------------------


def test_a_holder_whose_claim_ran_out_changes_nothing(case: Case) -> None:
    missing = case.spec()
    with pytest.raises(ClaimLost):
        case.backend.create(missing, generate_password(), lease(seconds=-1))
    assert case.remains(missing) == []
    spec, password = case.made()
    for verb in (case.backend.drop, case.backend.kill):
        with pytest.raises(ClaimLost):
            verb(spec, lease(seconds=-1))
    with case.session(spec, password):
        pass


def test_a_stale_holders_session_on_the_server_is_ended(case: Case) -> None:
    spec, _ = case.made()
    stale = case.mariadb.connect()
    assert query(stale, f"SELECT GET_LOCK('{spec.object_name}', 0)") == ((1,),)
    case.backend.drop(spec, lease())
    with pytest.raises(pymysql.Error):
        query(stale, f"CREATE DATABASE `{spec.object_name}`")
    assert case.remains(spec) == []


def test_a_server_that_is_not_configured_is_unavailable(case: Case) -> None:
    with pytest.raises(EngineUnavailable):
        case.backend.exists(replace(case.spec(), server="gone"))
