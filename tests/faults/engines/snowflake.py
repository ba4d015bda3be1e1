"""The Snowflake simulator under the fault tests, with the real connector.

The simulator remembers nothing over an end of its process, so it is never killed: where
another server is gone, it is cut off (`CutOffSnowflake`).
"""

from contextlib import closing, suppress
from typing import Any

import snowflake.connector
from snowflake.connector import DictCursor
from snowflake.connector.errors import Error

from devstack.snowflake import ACCOUNT, WAREHOUSE, SimulatedSnowflake
from devstack.snowflake import ADMIN as ACCOUNT_ADMIN
from tests.faults.engines.base import (
    ADMIN,
    ADMIN_PASSWORD,
    Details,
    Engine,
    Foreign,
    Inventory,
    Right,
)
from tests.faults.proxy import Proxy

ROLE = f"{ADMIN}_role".upper()
#: The database of the callers' project.
DATABASE = "SAPI_70"


class SnowflakeEngine(Engine):
    """An account, with an administrator who has just the rights that the service needs."""

    backend = "snowflake"
    # Nothing there fences a process off.
    password = ("password.set",)
    error = Error
    types = ("sandbox",)
    create = (
        "create.locked",
        "create.role",
        "create.login",
        "create.schema",
        "create.settings",
        "create.issued",
        "create.verified",
    )
    drop = {
        "sandbox": (
            "drop.login_locked",
            "drop.sessions",
            "drop.schema",
            "drop.login",
            "drop.checked",
        )
    }
    parts = ("schema", "user", "role")

    def prepare(self) -> None:
        self.run(
            f"CREATE WAREHOUSE IF NOT EXISTS {WAREHOUSE}",
            f"CREATE DATABASE IF NOT EXISTS {DATABASE}",
            f"CREATE ROLE IF NOT EXISTS {ROLE}",
            f"CREATE USER IF NOT EXISTS {ADMIN} PASSWORD = '{ADMIN_PASSWORD}' "
            f"TYPE = LEGACY_SERVICE DEFAULT_ROLE = {ROLE}",
            f"GRANT ROLE {ROLE} TO USER {ADMIN}",
            # As is usual: what roles own, the account's administrator may change.
            f"GRANT ROLE {ROLE} TO ROLE accountadmin",
            f"GRANT CREATE USER ON ACCOUNT TO ROLE {ROLE}",
            f"GRANT CREATE ROLE ON ACCOUNT TO ROLE {ROLE}",
            f"GRANT USAGE ON WAREHOUSE {WAREHOUSE} TO ROLE {ROLE} WITH GRANT OPTION",
            f"GRANT MONITOR ON WAREHOUSE {WAREHOUSE} TO ROLE {ROLE}",
            f"GRANT USAGE ON DATABASE {DATABASE} TO ROLE {ROLE} WITH GRANT OPTION",
            f"GRANT CREATE SCHEMA ON DATABASE {DATABASE} TO ROLE {ROLE}",
            f"GRANT IMPORTED PRIVILEGES ON DATABASE snowflake TO ROLE {ROLE}",
        )

    @property
    def port(self) -> int:
        """Where the service reaches the server."""
        return self.server.port

    @property
    def url(self) -> str:
        options = f"account={ACCOUNT}&warehouse={WAREHOUSE}&protocol=http"
        return f"snowflake://{ADMIN}:{ADMIN_PASSWORD}@{self.server.host}:{self.port}?{options}"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        with closing(self._connect_administrator()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def _connect_administrator(self) -> Any:
        return _connect(self.server.port, ACCOUNT_ADMIN, self.server.password, warehouse=WAREHOUSE)

    # Credentials --------------------------------------------------------------------

    def take_inventory(self, prefix: str) -> Inventory:
        assert prefix, "without a prefix nothing could be told from others' objects"
        ours = prefix.upper()
        with closing(self._connect_administrator()) as connection:

            def ask(query: str, column: str) -> list[dict[str, Any]]:
                with connection.cursor(DictCursor) as cursor:
                    rows = cursor.execute(query).fetchall()
                return [row for row in rows if row[column].startswith(ours)]

            roles = [row["name"] for row in ask("SHOW ROLES", "name")]
            grants: set[tuple[str, str]] = set()
            for role in roles:
                # It may be dropped by now.
                with suppress(Error):
                    for row in ask(f"SHOW GRANTS TO ROLE {role}", "grantee_name"):
                        if row["granted_on"] == "SCHEMA":
                            grants.add((role, row["name"]))
            sessions = ask(
                "SELECT session_id, user_name FROM SNOWFLAKE.ACCOUNT_USAGE.SESSIONS "
                "WHERE closed_reason IS NULL",
                "USER_NAME",
            )
            return Inventory(
                objects=frozenset(
                    f"{row['database_name']}.{row['name']}"
                    for row in ask("SHOW TERSE SCHEMAS IN ACCOUNT", "name")
                ),
                logins=frozenset(row["name"] for row in ask("SHOW USERS", "name")),
                roles=frozenset(roles),
                grants=frozenset(grants),
                sessions=[(row["SESSION_ID"], row["USER_NAME"], None) for row in sessions],
            )

    def connect(self, credentials: Details) -> Any:
        connection = _connect(
            credentials["port"],
            credentials["user"],
            credentials["password"],
            warehouse=credentials["warehouse"],
        )
        try:
            connection.cursor().execute(f"USE SCHEMA {credentials['db']}.{credentials['schema']}")
        except Error:
            connection.close()
            raise
        return connection

    def remove(self, credentials: Details, part: str) -> None:
        if part == "schema":
            self.run(f"DROP SCHEMA {credentials['db']}.{credentials['schema']}")
        else:
            self.run(f"DROP {part} {credentials['user']}")

    # Refusals -----------------------------------------------------------------------

    def creation_rights(self) -> list[Right]:
        rights = {
            "CREATE ROLE": ("CREATE ROLE ON ACCOUNT", ""),
            "CREATE USER": ("CREATE USER ON ACCOUNT", ""),
            "CREATE SCHEMA": (f"CREATE SCHEMA ON DATABASE {DATABASE}", ""),
            "GRANT USAGE": (f"USAGE ON WAREHOUSE {WAREHOUSE}", " WITH GRANT OPTION"),
        }
        return [
            Right(step, f"REVOKE {right} FROM ROLE {ROLE}", f"GRANT {right} TO ROLE {ROLE}{option}")
            for step, (right, option) in rights.items()
        ]

    def removal_right(self, credentials: Details) -> Right:
        change = f"GRANT OWNERSHIP ON USER {credentials['user']} TO ROLE"
        return Right("ALTER USER", f"{change} accountadmin", f"{change} {ROLE}")

    def foreigners(self, prefix: str, number: int, type_: str) -> list[Foreign]:
        schema = f"{DATABASE}.{prefix}workspace_{number}".upper()
        name = f"{prefix}sapi_workspace_{number}".upper()
        return [
            Foreign(
                "schema",
                (
                    f"CREATE SCHEMA {schema}",
                    f"CREATE TABLE {schema}.theirs (a INT)",
                    f"INSERT INTO {schema}.theirs VALUES (42)",
                ),
                f"SELECT a FROM {schema}.theirs",
                f"DROP SCHEMA {schema}",
            ),
            Foreign(
                "user",
                (f"CREATE USER {name} PASSWORD = 'Of-somebody-else-1' TYPE = LEGACY_SERVICE",),
                f"SHOW USERS LIKE '{name}'",
                f"DROP USER {name}",
            ),
            Foreign(
                "role", (f"CREATE ROLE {name}",), f"SHOW ROLES LIKE '{name}'", f"DROP ROLE {name}"
            ),
        ]


class CutOffSnowflake(SnowflakeEngine):
    """One that the service reaches through a proxy, which can be gone."""

    def __init__(self, server: SimulatedSnowflake, *, name: str = "default") -> None:
        super().__init__(server, name=name)
        self._proxy = Proxy()

    @property
    def port(self) -> int:
        return self._proxy.port

    def start(self) -> None:
        super().start()
        self._proxy.open(self.server.port)

    def stop(self) -> None:
        self._proxy.close()
        super().stop()

    def leave(self) -> None:
        self._proxy.cut()

    def come_back(self) -> None:
        self._proxy.open(self.server.port)


def _connect(port: int, user: str, password: str, **options: Any) -> Any:
    return snowflake.connector.connect(
        account=ACCOUNT,
        host="127.0.0.1",
        port=port,
        protocol="http",
        user=user,
        password=password,
        login_timeout=10,
        enable_server_session_keep_alive_auto_detection=False,
        **options,
    )
