"""Who gets in: passwords, key pairs, types of users, disabled and dropped ones."""

import pytest

from snowflake_simulator import SnowflakeSimulator
from tests.snowflake_simulator.connections import (
    Connection,
    KeyPair,
    connect,
    login_error,
    password_of,
)

BAD_LOGIN, DISABLED, BAD_KEY, SESSION_GONE = 390100, 390101, 390144, 390111


def test_right_password_starts_a_session_with_the_defaults(user: Connection) -> None:
    where = (
        "SELECT CURRENT_USER(), CURRENT_ROLE(), CURRENT_WAREHOUSE(), CURRENT_DATABASE(),"
        " CURRENT_SCHEMA(), CURRENT_ACCOUNT(), CURRENT_VERSION()"
    )
    assert user.rows(where) == [("U1", "R1", "WH", "D", "S1", "SIMULATOR", "0.0 (simulator)")]
    assert user.value("SELECT CURRENT_SESSION()") == str(user.inner.session_id)


def test_connect_string_overrides_the_defaults(
    simulator: SnowflakeSimulator, admin: Connection
) -> None:
    admin.rows("GRANT ROLE r2 TO USER u1")
    connection = connect(
        simulator, "u1", password_of("U1"), role="r2", database="d", schema="s2", warehouse="wh"
    )
    assert connection.rows("SELECT CURRENT_ROLE(), CURRENT_SCHEMA()") == [("R2", "S2")]
    connection.close()


@pytest.mark.usefixtures("admin")
class TestRefusals:
    def test_wrong_password(self, simulator: SnowflakeSimulator) -> None:
        assert login_error(simulator, "U1", "wrong") == BAD_LOGIN

    def test_unknown_user(self, simulator: SnowflakeSimulator) -> None:
        assert login_error(simulator, "NOBODY", "wrong") == BAD_LOGIN

    def test_role_that_was_not_granted(self, simulator: SnowflakeSimulator) -> None:
        assert login_error(simulator, "U1", password_of("U1"), role="R2") == 390189

    def test_user_without_a_password(
        self, simulator: SnowflakeSimulator, admin: Connection
    ) -> None:
        admin.rows("CREATE USER keyless TYPE = SERVICE")
        assert login_error(simulator, "KEYLESS", "any") == BAD_LOGIN


def test_disabled_user_is_refused_and_the_open_session_fails(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    admin.rows("ALTER USER u1 SET DISABLED = TRUE")
    assert login_error(simulator, "U1", password_of("U1")) == DISABLED
    assert user.error("SELECT 1") == DISABLED
    admin.rows("ALTER USER u1 SET DISABLED = FALSE")
    assert user.value("SELECT 1") == 1


def test_dropped_user_is_refused_and_the_open_session_fails(
    simulator: SnowflakeSimulator, admin: Connection, user: Connection
) -> None:
    admin.rows("DROP USER u1")
    assert login_error(simulator, "U1", password_of("U1")) == BAD_LOGIN
    assert user.error("SELECT 1") == SESSION_GONE
    assert simulator.open_sessions("U1") == []


def test_expired_user_is_refused(simulator: SnowflakeSimulator, admin: Connection) -> None:
    admin.rows("ALTER USER u1 SET DAYS_TO_EXPIRY = 1")
    connect(simulator, "U1", password_of("U1")).close()
    simulator.advance(24 * 3600 + 1)
    assert login_error(simulator, "U1", password_of("U1")) == DISABLED


def test_new_password_replaces_the_old_one(
    simulator: SnowflakeSimulator, admin: Connection
) -> None:
    admin.rows("ALTER USER u1 SET PASSWORD = 'Another-password-1'")
    assert login_error(simulator, "U1", password_of("U1")) == BAD_LOGIN
    connect(simulator, "U1", "Another-password-1").close()


@pytest.mark.parametrize("password", ["Short1", "no-upper-case-letter-1", "No-Digit-At-All-Here"])
def test_password_policy(admin: Connection, password: str) -> None:
    assert admin.error(f"CREATE USER weak PASSWORD = '{password}'") == 3002


def test_service_user_cannot_have_a_password(admin: Connection) -> None:
    create = "CREATE USER s TYPE = SERVICE PASSWORD = 'Secret-password-1'"
    assert admin.error(create) == 1420
    admin.rows("CREATE USER s TYPE = SERVICE")
    assert admin.error("ALTER USER s SET PASSWORD = 'Secret-password-1'") == 1420


def test_types_are_checked(admin: Connection) -> None:
    for kind in ("PERSON", "SERVICE", "LEGACY_SERVICE"):
        admin.rows(f"CREATE USER {kind}_user TYPE = {kind}")
    assert admin.error("CREATE USER odd TYPE = ROBOT") == 1008


def test_key_pairs(simulator: SnowflakeSimulator, admin: Connection) -> None:
    first, second, stranger = KeyPair(), KeyPair(), KeyPair()
    admin.rows(f"CREATE USER s TYPE = SERVICE RSA_PUBLIC_KEY = '{first.public}'")
    connect(simulator, "S", private_key=first.private).close()
    assert login_error(simulator, "S", private_key=stranger.private) == BAD_KEY
    assert login_error(simulator, "U1", private_key=first.private) == BAD_KEY
    admin.rows(f"ALTER USER s SET RSA_PUBLIC_KEY_2 = '{second.public}'")
    connect(simulator, "S", private_key=second.private).close()
    admin.rows("ALTER USER s UNSET RSA_PUBLIC_KEY")
    assert login_error(simulator, "S", private_key=first.private) == BAD_KEY
    connect(simulator, "S", private_key=second.private).close()


def test_malformed_public_key_is_refused(admin: Connection) -> None:
    assert admin.error("CREATE USER s RSA_PUBLIC_KEY = 'bm8ga2V5'") == 1008


def test_administrator_logs_in_by_key_pair() -> None:
    keys = KeyPair()
    with SnowflakeSimulator("ADMIN", None, keys.public) as simulator:
        assert login_error(simulator, "ADMIN", "") != 0
        connection = connect(simulator, "ADMIN", private_key=keys.private)
        assert connection.value("SELECT CURRENT_ROLE()") == "ACCOUNTADMIN"
        connection.close()
