"""Programmatic access tokens used as passwords."""

import pytest

from snowflake_simulator import SnowflakeSimulator
from tests.snowflake_simulator.connections import (
    ADMIN_PASSWORD,
    Connection,
    connect,
    login_error,
)

DAY = 24 * 3600


@pytest.fixture
def secret(admin: Connection) -> str:
    """The secret of the token T of the service user S, which is held to R1."""
    admin.rows("CREATE USER s TYPE = SERVICE DEFAULT_ROLE = r2")
    for role in ("r1", "r2"):
        admin.rows(f"GRANT ROLE {role} TO USER s")
    [record] = admin.records(
        "ALTER USER s ADD PROGRAMMATIC ACCESS TOKEN t ROLE_RESTRICTION = 'R1' DAYS_TO_EXPIRY = 2"
    )
    assert record.keys() == {"token_name", "token_secret"}
    return str(record["token_secret"])


def test_token_is_taken_as_a_password_and_held_to_its_role(
    simulator: SnowflakeSimulator, secret: str
) -> None:
    connection = connect(simulator, "S", secret)
    assert connection.value("SELECT CURRENT_ROLE()") == "R1"
    assert connection.error("USE ROLE r2") == 3013
    connection.rows("CREATE TABLE d.s1.t (a INT)")
    assert connection.error("CREATE TABLE d.s2.t (a INT)") == 2003
    connection.close()


def test_token_is_taken_by_its_own_authenticator(
    simulator: SnowflakeSimulator, secret: str
) -> None:
    options = {"authenticator": "PROGRAMMATIC_ACCESS_TOKEN"}
    connect(simulator, "S", token=secret, **options).close()
    assert login_error(simulator, "S", token="wrong", **options) == 394400


def test_token_ends_after_its_days(simulator: SnowflakeSimulator, secret: str) -> None:
    simulator.advance(2 * DAY + 1)
    assert login_error(simulator, "S", secret) == 390100


def test_token_ends_with_the_role(
    simulator: SnowflakeSimulator, admin: Connection, secret: str
) -> None:
    admin.rows("REVOKE ROLE r1 FROM USER s")
    assert login_error(simulator, "S", secret) == 394400


def test_removed_token_is_refused(
    simulator: SnowflakeSimulator, admin: Connection, secret: str
) -> None:
    admin.rows("ALTER USER s REMOVE PROGRAMMATIC ACCESS TOKEN t")
    assert login_error(simulator, "S", secret) == 390100
    assert admin.error("ALTER USER s REMOVE PAT t") == 2003


def test_token_stays_disabled_when_its_user_is_enabled_again(
    simulator: SnowflakeSimulator, admin: Connection, secret: str
) -> None:
    for disabled in ("TRUE", "FALSE"):
        admin.rows(f"ALTER USER s SET DISABLED = {disabled}")
    assert login_error(simulator, "S", secret) == 390100
    admin.rows("ALTER USER s MODIFY PAT t SET DISABLED = FALSE")
    connect(simulator, "S", secret).close()


def test_only_good_tokens_count_for_the_most_a_user_may_have(
    simulator: SnowflakeSimulator, admin: Connection, secret: str
) -> None:
    add = "ALTER USER s ADD PAT t{} ROLE_RESTRICTION = 'R1' DAYS_TO_EXPIRY = 9"
    for number in range(14):
        admin.rows(add.format(number))
    assert admin.error(add.format(14)) == 1008
    simulator.advance(2 * DAY + 1)
    again = connect(simulator, "ADMIN", ADMIN_PASSWORD)
    again.rows(add.format(14))
    again.close()


def test_rotation_gives_a_new_secret_and_ends_the_old_one(
    simulator: SnowflakeSimulator, admin: Connection, secret: str
) -> None:
    [record] = admin.records("ALTER USER s ROTATE PAT t EXPIRE_ROTATED_TOKEN_AFTER_HOURS = 1")
    for usable in (secret, record["token_secret"]):
        connect(simulator, "S", usable).close()
    simulator.advance(3601)
    assert login_error(simulator, "S", secret) == 390100
    connect(simulator, "S", record["token_secret"]).close()


def test_tokens_are_listed_without_their_secrets(admin: Connection, secret: str) -> None:
    [record] = admin.records("SHOW USER PROGRAMMATIC ACCESS TOKENS FOR USER s")
    assert (record["name"], record["role_restriction"], record["status"]) == ("T", "R1", "ACTIVE")
    assert secret not in str(record)


def test_service_users_have_to_name_a_role_they_have(admin: Connection) -> None:
    admin.rows("CREATE USER s TYPE = SERVICE")
    assert admin.error("ALTER USER s ADD PAT t") == 1008
    assert admin.error("ALTER USER s ADD PAT t ROLE_RESTRICTION = 'R1'") == 2003
