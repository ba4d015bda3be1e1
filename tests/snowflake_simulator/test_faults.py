"""The switches for tests: silence, failing statements, and the log."""

import pytest

from snowflake_simulator import SnowflakeSimulator
from tests.snowflake_simulator.connections import Background, Connection, wait_until_running
from tests.support.deadlines import ENDLESS, wait_until


def test_hanging_server_takes_requests_and_answers_after_release(
    simulator: SnowflakeSimulator, admin: Connection
) -> None:
    simulator.hang()
    waiting = Background(admin, "SELECT 1")
    with pytest.raises(TimeoutError):
        wait_until(lambda: waiting.ended, timeout=0.5, what="an answer")
    simulator.release()
    assert waiting.join().errno is None


def test_next_statement_with_a_prefix_fails_once(
    simulator: SnowflakeSimulator, admin: Connection
) -> None:
    simulator.fail_next("create role", 2003)
    admin.rows("SHOW ROLES")
    assert admin.error("CREATE  ROLE x") == 2003
    admin.rows("CREATE ROLE x")


def test_statement_that_works_and_fails_afterwards(
    simulator: SnowflakeSimulator, admin: Connection
) -> None:
    simulator.fail_next("CREATE ROLE", 603, after=True, times=2)
    assert admin.error("CREATE ROLE x") == 603
    assert admin.error("CREATE ROLE IF NOT EXISTS x") == 603
    assert admin.error("CREATE ROLE x") == 2002


def test_log_stars_passwords(simulator: SnowflakeSimulator, admin: Connection) -> None:
    secret = "Very-secret-password-1"
    admin.rows(f"CREATE USER x PASSWORD = '{secret}' COMMENT = 'kept'")
    admin.rows(f"ALTER USER x SET password='{secret}'")
    admin.error(f"ALTER USER x SET PASSWORD = '{secret}")
    assert secret not in "".join(simulator.statements)
    assert "CREATE USER x PASSWORD = '***' COMMENT = 'kept'" in simulator.statements
    history = admin.rows(
        "SELECT query_text FROM TABLE(d.INFORMATION_SCHEMA.QUERY_HISTORY(RESULT_LIMIT => 1000))"
    )
    assert len(history) > 3
    assert secret not in str(history)


def test_running_statements_are_told(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    running = Background(user, f"CALL SYSTEM$WAIT({ENDLESS})")
    wait_until_running(simulator, "U1")
    assert simulator.running_statements("U1") == [f"CALL SYSTEM$WAIT({ENDLESS})"]
    admin.rows("ALTER USER u1 ABORT ALL QUERIES")
    running.join()
    assert simulator.running_statements("U1") == []
