"""How statements and sessions end: cancelled, timed out, aborted, expired."""

import pytest
import snowflake.connector

from snowflake_simulator import SnowflakeSimulator
from tests.snowflake_simulator.connections import (
    Background,
    Connection,
    connect,
    password_of,
    wait_until_running,
)
from tests.support.deadlines import ENDLESS

CANCELLED, TIMED_OUT, SESSION_GONE = 604, 630, 390111
LONG = f"SELECT SYSTEM$WAIT({ENDLESS})"
#: A query that keeps DuckDB busy for minutes.
HEAVY = (
    "SELECT COUNT(*) FROM TABLE(GENERATOR(ROWCOUNT => 1000000)) a,"
    " TABLE(GENERATOR(ROWCOUNT => 1000000)) b WHERE RANDOM() < 0"
)


@pytest.mark.parametrize("statement", [LONG, f"CALL SYSTEM$WAIT({ENDLESS}, 'SECONDS')", HEAVY])
def test_abort_all_queries_ends_a_running_statement(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection, statement: str
) -> None:
    running = Background(user, statement)
    wait_until_running(simulator, "U1")
    admin.rows("ALTER USER u1 ABORT ALL QUERIES")
    running.join()
    assert running.errno == CANCELLED
    assert user.value("SELECT 1") == 1


def test_cancelled_statement_has_the_servers_sqlstate(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    admin.rows("ALTER USER u2 SET STATEMENT_TIMEOUT_IN_SECONDS = 1")
    other = connect(simulator, "U2", password_of("U2"))
    with pytest.raises(snowflake.connector.errors.ProgrammingError) as caught:
        other.rows(LONG)
    assert (caught.value.errno, caught.value.sqlstate) == (TIMED_OUT, "57014")
    other.close()


def test_disabling_a_user_ends_what_runs(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    running = Background(user, LONG)
    wait_until_running(simulator, "U1")
    admin.rows("ALTER USER u1 SET DISABLED = TRUE")
    assert running.join().errno == CANCELLED


def test_aborted_session_is_gone(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    number = user.inner.session_id
    running = Background(user, LONG)
    wait_until_running(simulator, "U1")
    answer = admin.value(f"SELECT SYSTEM$ABORT_SESSION({number})")
    assert answer == f"session [{number}] terminated."
    assert running.join().errno == CANCELLED
    assert user.error("SELECT 1") == SESSION_GONE
    assert simulator.open_sessions("U1") == []


def test_cancel_all_queries_leaves_the_session(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    running = Background(user, LONG)
    wait_until_running(simulator, "U1")
    cancel = f"SELECT SYSTEM$CANCEL_ALL_QUERIES({user.inner.session_id})"
    assert admin.value(cancel) == "1 cancelled."
    assert running.join().errno == CANCELLED
    assert user.value("SELECT 1") == 1


def test_sessions_of_others_are_out_of_reach(admin: Connection, user: Connection) -> None:
    number = admin.inner.session_id
    assert user.error(f"SELECT SYSTEM$ABORT_SESSION({number})") == 3001


@pytest.mark.parametrize("statement", [LONG, HEAVY])
def test_statement_timeout_of_the_user_is_enforced_by_the_server(
    simulator: SnowflakeSimulator, admin: Connection, statement: str
) -> None:
    admin.rows("ALTER USER u1 SET STATEMENT_TIMEOUT_IN_SECONDS = 1")
    connection = connect(simulator, "U1", password_of("U1"))
    running = Background(connection, statement).join()
    assert running.errno == TIMED_OUT
    assert running.seconds > 0.9
    connection.close()


def test_statement_timeout_of_session_and_warehouse(admin: Connection, user: Connection) -> None:
    user.rows("ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = 1")
    assert user.error(LONG) == TIMED_OUT
    user.rows("ALTER SESSION SET STATEMENT_TIMEOUT_IN_SECONDS = 0")
    admin.rows("ALTER WAREHOUSE wh SET STATEMENT_TIMEOUT_IN_SECONDS = 1")
    assert user.error(LONG) == TIMED_OUT


def test_history_tells_what_a_user_runs(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    running = Background(user, LONG)
    wait_until_running(simulator, "U1")
    history = (
        "SELECT query_text, session_id FROM TABLE(INFORMATION_SCHEMA.QUERY_HISTORY_BY_USER("
        "USER_NAME => 'U1', RESULT_LIMIT => 100)) WHERE execution_status = '{}'"
    )
    admin.rows("USE DATABASE d")
    assert admin.rows(history.format("RUNNING")) == [(LONG, user.inner.session_id)]
    admin.rows("ALTER USER u1 ABORT ALL QUERIES")
    running.join()
    assert admin.rows(history.format("RUNNING")) == []
    assert admin.rows(history.format("FAILED_WITH_ERROR")) == [(LONG, user.inner.session_id)]


def test_account_usage_lists_sessions_late(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    sessions = (
        "SELECT session_id FROM snowflake.account_usage.sessions"
        " WHERE user_name = 'U1' AND closed_reason IS NULL"
    )
    assert admin.rows(sessions) == [(user.inner.session_id,)]
    simulator.delay_account_usage(3600)
    assert admin.rows(sessions) == []


def test_logout_ends_the_session(simulator: SnowflakeSimulator, admin: Connection) -> None:
    connection = connect(simulator, "U1", password_of("U1"))
    assert simulator.open_sessions("U1") == [connection.inner.session_id]
    connection.close()
    assert simulator.open_sessions("U1") == []


def test_expired_session_token_is_renewed_unseen(
    simulator: SnowflakeSimulator, user: Connection
) -> None:
    simulator.advance(3601)
    assert user.value("SELECT 1") == 1
    assert simulator.open_sessions("U1") == [user.inner.session_id]


def test_expired_master_token_needs_a_new_login(
    simulator: SnowflakeSimulator, user: Connection
) -> None:
    simulator.advance(4 * 3600 + 1)
    assert user.error("SELECT 1") == 390114


def test_context_follows_what_is_dropped(admin: Connection, user: Connection) -> None:
    admin.rows("DROP SCHEMA d.s1 CASCADE")
    assert user.rows("SELECT CURRENT_DATABASE(), CURRENT_SCHEMA()") == [("D", None)]
    assert user.error("CREATE TABLE t (a INT)") == 90106


def test_sessions_that_nobody_can_renew_are_closed(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    simulator.advance(4 * 3600 + 1)
    connect(simulator, "U2", password_of("U2")).close()
    assert simulator.open_sessions() == []
