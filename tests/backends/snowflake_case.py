"""Snowflake for the conformance suite: the simulator, and the real connector."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import snowflake.connector

from provisioning.backends.base import Spec
from provisioning.backends.snowflake import SnowflakeBackend
from provisioning.configuration.config import Limits
from provisioning.configuration.secrets import Secret, generate_password
from provisioning.configuration.servers import SnowflakeServer
from snowflake_simulator import SnowflakeSimulator
from tests.backends.case import NO_LIMITS, Case
from tests.support.deadlines import ENDLESS

Account = tuple[SnowflakeSimulator, SnowflakeServer]


class SnowflakeCase(Case):
    """Against the simulator, with the real connector."""

    error = snowflake.connector.errors.Error
    sleep = f"SELECT SYSTEM$WAIT({ENDLESS})"

    def __init__(
        self, backend: SnowflakeBackend, type_: str, simulator: SnowflakeSimulator
    ) -> None:
        super().__init__(backend, type_)
        self.simulator = simulator

    def connect(self, spec: Spec, password: Secret, *, autocommit: bool = True) -> Any:
        return snowflake_login(
            self.simulator, spec.user_name, password.reveal(), autocommit=autocommit
        )

    def connect_by_key(self, spec: Spec, private_key: bytes) -> Any:
        """Log in with a private key, DER."""
        return snowflake_login(self.simulator, spec.user_name, None, private_key=private_key)

    def admin(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return snowflake_admin(self.simulator, sql, *values)

    def make_foreign_object(self, spec: Spec) -> None:
        self.admin(f"CREATE SCHEMA {spec.object_name}")
        self.admin(f"CREATE TABLE {spec.object_name}.theirs (a INT)")
        # Otherwise we would not even see it.
        self.admin(f"GRANT USAGE ON SCHEMA {spec.object_name} TO ROLE provisioner")

    def foreign_object_survives(self, spec: Spec) -> bool:
        found = self.admin(f"SELECT COUNT(*) FROM {spec.object_name}.theirs") == [(0,)]
        self.remove_object(spec)
        return found

    def remove_object(self, spec: Spec) -> None:
        self.admin(f"DROP SCHEMA {spec.object_name}")

    def remove_login(self, spec: Spec) -> None:
        self.admin(f"DROP USER {spec.user_name}")

    def lock_login(self, spec: Spec) -> None:
        self.admin(f"ALTER USER {spec.user_name} SET DISABLED = TRUE")

    def runs_long(self, spec: Spec) -> bool:
        return bool(self.simulator.running_statements(spec.user_name))

    def hold_lock(self, spec: Spec) -> Any:
        raise NotImplementedError("there are no locks to hold")

    def remains(self, spec: Spec) -> list[str]:
        database, schema = spec.object_name.split(".")
        looks = {
            "user": ("SHOW TERSE USERS", spec.user_name),
            "role": ("SHOW ROLES", spec.user_name),
            "schema": (f"SHOW TERSE SCHEMAS IN DATABASE {database}", schema),
        }
        found = [
            f"{what} {name}"
            for what, (sql, name) in looks.items()
            if any(name in row for row in self.admin(sql))
        ]
        sessions = self.simulator.open_sessions(spec.user_name)
        return found + [f"session {number}" for number in sessions]

    def forbidden(self, other: Spec) -> list[str]:
        return [
            f"CREATE TABLE {other.object_name}.t (a INT)",
            f"SELECT * FROM {other.object_name}.theirs",
            "CREATE SCHEMA mine_alone",
            "CREATE DATABASE mine_alone",
            "CREATE USER mallory PASSWORD = 'Long-enough-for-a-policy-1'",
            "CREATE ROLE mallory",
            "USE ROLE ACCOUNTADMIN",
            "ALTER WAREHOUSE wh SET STATEMENT_TIMEOUT_IN_SECONDS = 0",
            "SELECT * FROM SNOWFLAKE.ACCOUNT_USAGE.SESSIONS",
        ]


def snowflake_login(
    simulator: SnowflakeSimulator, user: str, password: str | None, **options: Any
) -> Any:
    """Open a connection to a simulator as its callers do."""
    return snowflake.connector.connect(
        account=simulator.account,
        host=simulator.host,
        port=simulator.port,
        protocol="http",
        user=user,
        password=password,
        enable_server_session_keep_alive_auto_detection=False,
        **options,
    )


#: Backends of the running test, closed before their account is.
_opened: list[SnowflakeBackend] = []


def configured(
    account: Account, limits: Limits = NO_LIMITS["writer"], **changes: Any
) -> SnowflakeCase:
    """Return workspaces on an account with other options; `close_configured` ends them."""
    simulator, server = account
    backend = SnowflakeBackend(
        (replace(server, **changes),), {**NO_LIMITS, "writer": limits}, timeout=2, connections=2
    )
    _opened.append(backend)
    return SnowflakeCase(backend, "writer", simulator)


def close_configured() -> None:
    while _opened:
        _opened.pop().close()


def run(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        return list(cursor.execute(sql).fetchall())


def error_of(connection: Any, sql: str) -> int:
    """Run a statement that has to fail and return its number."""
    with pytest.raises(snowflake.connector.errors.Error) as caught:
        run(connection, sql)
    return int(caught.value.errno)


ACCOUNT_ADMIN, ACCOUNT_PASSWORD = "BOSS", "the account's own"


def snowflake_admin(simulator: SnowflakeSimulator, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement as the account's administrator."""
    with (
        snowflake_login(simulator, ACCOUNT_ADMIN, ACCOUNT_PASSWORD, warehouse="WH") as connection,
        connection.cursor() as cursor,
    ):
        return list(cursor.execute(sql, values or None).fetchall())


@contextmanager
def snowflake_account() -> Iterator[Account]:
    """Run a simulator with the service's own admin, who has just the rights it needs."""
    password = generate_password()
    with SnowflakeSimulator(ACCOUNT_ADMIN, ACCOUNT_PASSWORD) as simulator:
        for statement in (
            "CREATE WAREHOUSE wh",
            "CREATE DATABASE sapi_70",
            "CREATE ROLE provisioner",
            f"CREATE USER provisioner PASSWORD = '{password.reveal()}' TYPE = LEGACY_SERVICE "
            "DEFAULT_ROLE = provisioner",
            "GRANT ROLE provisioner TO USER provisioner",
            # As is usual: what roles own, the account's administrator may change.
            "GRANT ROLE provisioner TO ROLE accountadmin",
            "GRANT CREATE USER ON ACCOUNT TO ROLE provisioner",
            "GRANT CREATE ROLE ON ACCOUNT TO ROLE provisioner",
            "GRANT USAGE ON WAREHOUSE wh TO ROLE provisioner WITH GRANT OPTION",
            "GRANT MONITOR ON WAREHOUSE wh TO ROLE provisioner",
            "GRANT USAGE ON DATABASE sapi_70 TO ROLE provisioner WITH GRANT OPTION",
            "GRANT CREATE SCHEMA ON DATABASE sapi_70 TO ROLE provisioner",
            "GRANT IMPORTED PRIVILEGES ON DATABASE snowflake TO ROLE provisioner",
        ):
            snowflake_admin(simulator, statement)
        yield (
            simulator,
            SnowflakeServer(
                name="one",
                host=simulator.host,
                port=simulator.port,
                user="provisioner",
                password=password,
                public_host=simulator.host,
                public_port=simulator.port,
                account=simulator.account,
                warehouse="wh",
                protocol="http",
            ),
        )
