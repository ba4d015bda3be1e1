"""What only Snowflake has; the server here is the simulator, the connector the real one."""

import base64
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from snowflake.connector.errors import Error

from provisioning.backends.base import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    Spec,
)
from provisioning.backends.snowflake import SnowflakeBackend
from provisioning.backends.snowflake.server import translate
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret, generate_password
from tests.backends.case import lease
from tests.backends.snowflake_case import Account, SnowflakeCase, configured, error_of, run
from tests.support.deadlines import DEADLINE, ENDLESS, wait_until

TIMED_OUT, CANCELLED, BAD_LOGIN, DISABLED, SESSION_GONE = 630, 604, 390100, 390101, 390111


@pytest.fixture
def workspace(snowflake_backend: SnowflakeBackend, snowflake_one: Account) -> SnowflakeCase:
    return SnowflakeCase(snowflake_backend, "sandbox", snowflake_one[0])


class Running:
    """A statement in a thread, and the number of the error that ended it."""

    def __init__(self, connection: Any, sql: str) -> None:
        self.number = 0
        self._thread = threading.Thread(target=self._run, args=(connection, sql))
        self._thread.start()

    def _run(self, connection: Any, sql: str) -> None:
        self.number = error_of(connection, sql)

    def join(self) -> int:
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return self.number


# What is made ---------------------------------------------------------------------------


def test_details_name_the_place_in_the_servers_case(workspace: SnowflakeCase) -> None:
    spec, password = workspace.made()
    number, prefix = str(spec.credentials_id), workspace.prefix.upper()
    assert workspace.backend.describe(spec, password) == {
        "hostname": workspace.simulator.host,
        "port": workspace.simulator.port,
        "db": "SAPI_70",
        "schema": f"{prefix}WORKSPACE_{number}",
        "warehouse": "WH",
        "workspaceId": number,
        "user": f"{prefix}SAPI_WORKSPACE_{number}",
        "password": password.reveal(),
    }


def test_a_new_session_is_where_the_details_say(workspace: SnowflakeCase) -> None:
    spec, password = workspace.made()
    place = "SELECT CURRENT_DATABASE(), CURRENT_SCHEMA(), CURRENT_ROLE(), CURRENT_WAREHOUSE()"
    with workspace.session(spec, password) as connection:
        database, schema = spec.object_name.split(".")
        assert run(connection, place) == [(database, schema, spec.user_name, "WH")]


def test_a_workspace_cannot_let_others_in(workspace: SnowflakeCase) -> None:
    spec, password = workspace.made()
    with workspace.session(spec, password) as connection:
        run(connection, "CREATE TABLE t (a INT)")
        assert error_of(connection, "GRANT SELECT ON TABLE t TO ROLE PUBLIC") == 3001


def test_what_others_load_into_the_schema_is_the_workspaces(workspace: SnowflakeCase) -> None:
    spec, password = workspace.made()
    workspace.admin(f"CREATE TABLE {spec.object_name}.loaded (a INT)")
    with workspace.session(spec, password) as connection:
        run(connection, "INSERT INTO loaded VALUES (1)")
        assert run(connection, "SELECT a FROM loaded") == [(1,)]


def test_a_missing_database_is_made_if_the_admin_may(own_account: Account) -> None:
    case = configured(own_account)
    with pytest.raises(EngineRefused, match="database SAPI_71 is missing"):
        case.made(project="71")
    case.admin("GRANT CREATE DATABASE ON ACCOUNT TO ROLE provisioner")
    spec, password = case.made(project="71")
    with case.session(spec, password) as connection:
        run(connection, "CREATE TABLE t (a INT)")


def test_a_role_or_user_of_somebody_else_is_left_alone(workspace: SnowflakeCase) -> None:
    for kind in ("ROLE", "USER"):
        spec = workspace.spec()
        workspace.admin(f"CREATE {kind} {spec.user_name}")
        with pytest.raises(EngineRefused, match=f"{kind.lower()} {spec.user_name} exists"):
            workspace.backend.create(spec, generate_password(), lease())
        assert workspace.remains(spec) == [f"{kind.lower()} {spec.user_name}"]
        workspace.admin(f"DROP {kind} {spec.user_name}")


def test_a_role_that_is_gone_makes_the_credential_gone(workspace: SnowflakeCase) -> None:
    spec, _ = workspace.made()
    workspace.admin(f"DROP ROLE {spec.user_name}")
    assert not workspace.backend.exists(spec)


# Logins ---------------------------------------------------------------------------------


def test_a_wrong_password_is_refused(workspace: SnowflakeCase) -> None:
    spec, _ = workspace.made()
    with pytest.raises(Error) as caught:
        workspace.connect(spec, generate_password())
    assert caught.value.errno == BAD_LOGIN


def test_a_disabled_users_open_session_fails_on_its_next_query(workspace: SnowflakeCase) -> None:
    spec, password = workspace.made()
    with workspace.session(spec, password) as connection:
        run(connection, "SELECT 1")
        workspace.lock_login(spec)
        assert error_of(connection, "SELECT 1") == DISABLED
    with pytest.raises(Error):
        workspace.connect(spec, password)


def test_the_server_itself_shuts_the_user_out_a_day_or_two_after_the_end(
    own_account: Account,
) -> None:
    case = configured(own_account)
    day = 86_400
    spec = replace(case.spec(), expires_at=int(time.time() + day) * 1000)
    password = generate_password()
    case.backend.create(spec, password, lease())
    case.simulator.advance(1.5 * day)
    with case.session(spec, password):
        pass
    prolong(case, replace(spec, expires_at=int(time.time() + 2 * day) * 1000))
    case.simulator.advance(2 * day)
    with case.session(spec, password):
        pass
    case.simulator.advance(2 * day)
    with pytest.raises(Error) as caught:
        case.connect(spec, password)
    assert caught.value.errno == DISABLED
    prolong(case, replace(spec, expires_at=None))
    with case.session(spec, password):
        pass


def prolong(case: SnowflakeCase, spec: Spec) -> None:
    """Prolong as callers do, who repeat it: setting the clock ends the admin's session."""
    try:
        case.backend.prolong(spec)
    except EngineBusy:
        case.backend.prolong(spec)


def test_the_statement_limit_of_a_writer_is_enforced_by_the_server(
    snowflake_one: Account,
) -> None:
    case = configured(snowflake_one, Limits(connections=0, statement_seconds=1))
    spec, password = case.made()
    with case.session(spec, password) as connection:
        started = time.monotonic()
        assert error_of(connection, f"SELECT SYSTEM$WAIT({ENDLESS})") == TIMED_OUT
        assert 0.9 < time.monotonic() - started < DEADLINE


# Ends -----------------------------------------------------------------------------------


def test_drop_ends_a_busy_session_and_leaves_nothing(workspace: SnowflakeCase) -> None:
    spec, password = workspace.made()
    with workspace.session(spec, password) as connection:
        running = Running(connection, f"SELECT SYSTEM$WAIT({ENDLESS})")
        wait_until(lambda: workspace.runs_long(spec), what="the statement runs")
        workspace.backend.drop(spec, lease())
        assert running.join() == CANCELLED
        assert error_of(connection, "SELECT 1") == SESSION_GONE
    assert workspace.remains(spec) == []
    with pytest.raises(Error) as caught:
        workspace.connect(spec, password)
    assert caught.value.errno == BAD_LOGIN


def test_drop_succeeds_when_the_database_is_gone(own_account: Account) -> None:
    case = configured(own_account)
    spec, _ = case.made()
    case.admin("DROP DATABASE sapi_70")
    assert not case.backend.exists(spec)
    case.backend.drop(spec, lease())
    users = case.admin("SHOW TERSE USERS")
    assert not any(spec.user_name in row for row in users)


def test_without_its_warehouse_a_workspace_is_still_read_and_dropped(own_account: Account) -> None:
    case = configured(own_account)
    spec, password = case.made()
    case.admin("DROP WAREHOUSE wh")
    assert case.backend.exists(spec)
    assert not case.backend.in_use(spec)
    case.backend.drop(spec, lease())
    with pytest.raises(Error):
        case.connect(spec, password)
    assert case.simulator.open_sessions(spec.user_name) == []


def test_with_a_late_account_usage_only_statements_show_sessions(own_account: Account) -> None:
    """As on a real account, where ACCOUNT_USAGE is hours late."""
    case = configured(own_account)
    own_account[0].delay_account_usage(3 * 3600)
    spec, password = case.made()
    with case.session(spec, password) as idle, case.session(spec, password) as busy:
        assert not case.backend.in_use(spec)
        running = Running(busy, f"SELECT SYSTEM$WAIT({ENDLESS})")
        wait_until(lambda: case.runs_long(spec), what="the statement runs")
        assert case.backend.in_use(spec)
        assert case.backend.kill(spec, lease()) == 1
        assert running.join() == CANCELLED
        assert error_of(busy, "SELECT 1") == SESSION_GONE
        # What never ran a statement is not found by kill; a drop disables its user.
        assert run(idle, "SELECT 1") == [(1,)]
        case.backend.drop(spec, lease())
        assert error_of(idle, "SELECT 1") == SESSION_GONE


# Outages --------------------------------------------------------------------------------


def test_a_hung_server_fails_in_time_and_is_back_after(own_account: Account) -> None:
    case, simulator = configured(own_account), own_account[0]
    spec, _ = case.made()
    simulator.hang()
    for _ in range(2):
        start = time.monotonic()
        with pytest.raises(EngineUnavailable):
            case.backend.exists(spec)
        # The pooled connection's statement, then the login of a new one.
        assert time.monotonic() - start < DEADLINE
    simulator.release()
    wait_until(lambda: _exists(case, spec), what="the server back")


def _exists(case: SnowflakeCase, spec: Spec) -> bool:
    try:
        return case.backend.exists(spec)
    except EngineUnavailable:
        return False


def test_an_admin_session_that_was_ended_is_replaced(own_account: Account) -> None:
    case, simulator = configured(own_account), own_account[0]
    spec, _ = case.made()
    for session in simulator.open_sessions("PROVISIONER"):
        case.admin(f"SELECT SYSTEM$ABORT_SESSION({session})")
    wait_until(lambda: _exists(case, spec), what="a new session")


def test_a_lost_answer_is_made_good_by_the_repeat(own_account: Account) -> None:
    case, simulator = configured(own_account), own_account[0]
    for statement in ("CREATE ROLE", "CREATE USER", "CREATE SCHEMA", "GRANT USAGE", "DROP"):
        spec, password = case.spec(), generate_password()
        simulator.fail_next(statement, 603, after=True)
        if statement == "DROP":
            case.backend.create(spec, password, lease())
            with pytest.raises(EngineBusy):
                case.backend.drop(spec, lease())
        else:
            with pytest.raises(EngineBusy):
                case.backend.create(spec, password, lease())
            case.backend.create(spec, password, lease(token=2))
            assert case.backend.exists(spec)
        case.backend.drop(spec, lease(token=3))
        assert case.remains(spec) == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Error("locked", errno=625), EngineBusy),
        (Error("too long", errno=630), EngineBusy),
        (Error("gone", errno=390111, sqlstate="08001"), EngineBusy),
        (Error("Query timed out", errno=14, sqlstate="HYT00"), EngineUnavailable),
        (Error("closed", errno=250002, sqlstate="08003"), EngineUnavailable),
        (Error("no number"), EngineUnavailable),
        (Error("missing", errno=2003, sqlstate="02000"), EngineRefused),
        (Error("no right", errno=3001, sqlstate="42501"), EngineRefused),
    ],
)
def test_errors_are_told_apart_by_their_numbers(error: Error, kind: type[EngineError]) -> None:
    assert type(translate(error, "one")) is kind


def test_errors_do_not_quote_statements() -> None:
    for number in (1003, 1008):
        problem = Error("unexpected 'hunter2'", errno=number, sqlstate="42000")
        assert "hunter2" not in str(translate(problem, "one"))


# The admin ------------------------------------------------------------------------------


def test_the_admin_may_log_in_by_a_key(own_account: Account, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = base64.b64encode(
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()
    file = tmp_path / "key.p8"
    file.touch(mode=0o600)
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    case = configured(own_account, password=Secret(""), private_key_file=str(file))
    (health,) = case.backend.check()
    assert not health.alive
    case.admin(f"ALTER USER provisioner SET RSA_PUBLIC_KEY = '{public}'")
    (health,) = case.backend.check()
    assert health.alive, health.message


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("REVOKE CREATE USER ON ACCOUNT", "cannot create users: GRANT CREATE USER ON ACCOUNT"),
        ("REVOKE CREATE ROLE ON ACCOUNT", "cannot create roles: GRANT CREATE ROLE ON ACCOUNT"),
        ("REVOKE USAGE ON WAREHOUSE wh", "cannot hand out the warehouse WH: GRANT USAGE"),
        ("REVOKE CREATE SCHEMA ON DATABASE sapi_70", "cannot create schemas in SAPI_70: GRANT"),
        ("REVOKE USAGE ON DATABASE sapi_70", "cannot hand out the database SAPI_70: GRANT"),
    ],
)
def test_check_names_the_right_that_is_missing(own_account: Account, taken: str, said: str) -> None:
    case = configured(own_account, database="sapi_70")
    (health,) = case.backend.check()
    assert health.alive, health.message
    case.admin(f"{taken} FROM ROLE provisioner")
    (health,) = case.backend.check()
    assert not health.alive
    assert said in health.message
    case.admin(health.message.partition(": ")[2])
    (health,) = case.backend.check()
    assert health.alive, health.message


@pytest.mark.parametrize(
    "right", ["IMPORTED PRIVILEGES ON DATABASE SNOWFLAKE", 'MONITOR ON WAREHOUSE "WH"']
)
def test_check_tells_that_sessions_are_not_seen(own_account: Account, right: str) -> None:
    case = configured(own_account)
    case.admin(f"REVOKE {right} FROM ROLE provisioner")
    (health,) = case.backend.check()
    assert health.alive
    assert f"sessions are not seen: GRANT {right} TO" in health.message
