"""PostgreSQL under the fault tests, alone and behind Redshift's stand-in."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from devstack.postgres import Postgres
from tests.faults.engines.base import (
    ADMIN,
    ADMIN_PASSWORD,
    Details,
    Engine,
    Foreign,
    Inventory,
    Right,
)
from tests.support import redshift_stand_in
from tests.support.redshift_stand_in import RedshiftStandIn


class PostgresEngine(Engine):
    """A database for workspaces, with an administrator who is no superuser."""

    backend = "postgresql"
    error = psycopg2.Error
    types = ("sandbox",)
    create = (
        "create.locked",
        "create.login",
        "create.settings",
        "create.schema",
        "create.verified",
    )
    drop = {
        "sandbox": (
            "drop.locked",
            "drop.login_locked",
            "drop.sessions",
            "drop.schema",
            "drop.login",
            "drop.checked",
        )
    }
    parts = ("schema", "login")
    database = "fault_workspaces"
    #: The service's administrator.
    admin = ADMIN

    def __init__(self, server: Postgres, *, name: str = "default") -> None:
        super().__init__(server, name=name)
        self.postgres = server

    def prepare(self) -> None:
        self.postgres.ensure_database(self.database)
        if not self.run(f"SELECT 1 FROM pg_roles WHERE rolname = '{ADMIN}'"):
            self.run(f"CREATE USER {ADMIN} CREATEROLE PASSWORD '{ADMIN_PASSWORD}'")
        self.run(f"GRANT CREATE ON DATABASE {self.database} TO {ADMIN}")

    @property
    def url(self) -> str:
        address = f"{self.server.host}:{self.server.port}/{self.database}"
        return f"postgresql://{ADMIN}:{ADMIN_PASSWORD}@{address}"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        with closing(self._connect_superuser()) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def _connect_superuser(self) -> Any:
        connection = psycopg2.connect(
            self.postgres.database_url(self.database).replace("+psycopg2", "")
        )
        connection.autocommit = True
        return connection

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse all changes for a block."""
        self.run("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        try:
            yield
        finally:
            self.run("ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")

    # Credentials --------------------------------------------------------------------

    def take_inventory(self, prefix: str) -> Inventory:
        """List what bears the prefix, and sessions that no login has any more."""
        assert prefix, "without a prefix nothing could be told from others' objects"
        pattern = prefix.replace("_", "\\_") + "%"
        with closing(self._connect_superuser()) as connection, connection.cursor() as cursor:

            def ask(query: str) -> list[tuple[Any, ...]]:
                cursor.execute(query, {"pattern": pattern})
                return list(cursor.fetchall())

            return Inventory(
                objects=_first(
                    ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE %(pattern)s")
                ),
                logins=_first(ask("SELECT rolname FROM pg_roles WHERE rolname LIKE %(pattern)s")),
                grants=frozenset(
                    ask(
                        "SELECT rolname, nspname FROM pg_namespace, "
                        "aclexplode(COALESCE(nspacl, acldefault('n', nspowner))) AS access "
                        "JOIN pg_roles ON pg_roles.oid = access.grantee "
                        "WHERE rolname LIKE %(pattern)s"
                    )
                ),
                sessions=ask(
                    "SELECT pid, COALESCE(usename, 'nobody'), NULL FROM pg_stat_activity "
                    "WHERE backend_type = 'client backend' AND datname = current_database() "
                    "AND (usename LIKE %(pattern)s OR usename IS NULL)"
                ),
            )

    def connect(self, credentials: Details) -> Any:
        connection = psycopg2.connect(
            host=credentials["hostname"],
            port=credentials["port"],
            dbname=credentials["db"],
            user=credentials["user"],
            password=credentials["password"],
            connect_timeout=10,
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_schema()")
            if cursor.fetchall() != [(credentials["schema"],)]:
                connection.close()
                raise psycopg2.OperationalError("the login does not reach its schema")
        return connection

    def remove(self, credentials: Details, part: str) -> None:
        user, schema = credentials["user"], credentials["schema"]
        if part == "schema":
            self.run(f'DROP SCHEMA "{schema}" CASCADE')
        else:
            self.run(f'REASSIGN OWNED BY "{user}" TO {self.admin}', f'DROP USER "{user}"')

    # Refusals -----------------------------------------------------------------------

    def creation_rights(self) -> list[Right]:
        return [
            self.removal_right({}),
            Right(
                "CREATE SCHEMA",
                f"REVOKE CREATE ON DATABASE {self.database} FROM {ADMIN}",
                f"GRANT CREATE ON DATABASE {self.database} TO {ADMIN}",
            ),
        ]

    def removal_right(self, credentials: Details) -> Right:
        step = "ALTER USER" if credentials else "CREATE USER"
        return Right(step, f"ALTER USER {ADMIN} NOCREATEROLE", f"ALTER USER {ADMIN} CREATEROLE")

    def foreigners(self, prefix: str, number: int, type_: str) -> list[Foreign]:
        schema, user = f"{prefix}workspace_{number}", f"{prefix}sapi_workspace_{number}"
        return [
            Foreign(
                "schema",
                (
                    f"CREATE SCHEMA {schema}",
                    f"CREATE TABLE {schema}.theirs AS SELECT 42 AS a",
                ),
                f"SELECT a FROM {schema}.theirs",
                f"DROP SCHEMA {schema} CASCADE",
            ),
            Foreign(
                "login",
                (f"CREATE USER {user} PASSWORD 'theirs'",),
                f"SELECT * FROM pg_authid WHERE rolname = '{user}'",
                f"DROP USER {user}",
            ),
        ]


class RedshiftEngine(PostgresEngine):
    """Redshift's stand-in: its administrator is a superuser, and it has no locks to hold."""

    backend = "redshift-workspace"
    database = redshift_stand_in.DATABASE
    admin = redshift_stand_in.ADMIN
    _stand_in: RedshiftStandIn | None = None

    def prepare(self) -> None:
        self._stand_in = RedshiftStandIn(self.postgres)
        # Without the rights of a superuser it would not even see logins.
        self.run(f"GRANT SELECT ON pg_user_info TO {self.admin}")

    @property
    def url(self) -> str:
        assert self._stand_in is not None
        return self._stand_in.url

    def stop(self) -> None:
        if self._stand_in is not None:
            self._stand_in.close()
        super().stop()

    def creation_rights(self) -> list[Right]:
        give = f"ALTER USER {self.admin} SUPERUSER NOCREATEROLE"
        return [
            Right("CREATE USER", f"ALTER USER {self.admin} NOSUPERUSER", give),
            Right("CREATE SCHEMA", f"ALTER USER {self.admin} NOSUPERUSER CREATEROLE", give),
        ]

    def removal_right(self, credentials: Details) -> Right:
        change = f"ALTER USER {self.admin}"
        return Right("ALTER USER", f"{change} NOSUPERUSER", f"{change} SUPERUSER")


def _first(rows: list[tuple[Any, ...]]) -> frozenset[str]:
    return frozenset(row[0] for row in rows)
