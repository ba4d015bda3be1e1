"""MariaDB under the fault tests."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql

from devstack.mariadb import MariaDB
from tests.faults.engines.base import (
    ADMIN,
    ADMIN_PASSWORD,
    Details,
    Engine,
    Foreign,
    Inventory,
    Right,
)
from tests.support.servers import connect_as

_ACCOUNT = f"{ADMIN}@127.0.0.1"
_ALL_RIGHTS = f"GRANT ALL PRIVILEGES ON *.* TO {_ACCOUNT} WITH GRANT OPTION"


class MySQLEngine(Engine):
    backend = "mysql"
    error = pymysql.Error
    types = ("sandbox", "transformations")
    create = (
        "create.locked",
        "create.database",
        "create.login",
        "create.grant",
        "create.verified",
    )
    drop = {
        "sandbox": (
            "drop.locked",
            "drop.revoked",
            "drop.login",
            "drop.sessions",
            "drop.database",
            "drop.checked",
        ),
        "transformations": (
            "drop.locked",
            "drop.login",
            "drop.sessions",
            "drop.database",
            "drop.checked",
        ),
    }
    parts = ("database", "login")

    def __init__(self, server: MariaDB, *, name: str = "default") -> None:
        super().__init__(server, name=name)
        self.mariadb = server

    def prepare(self) -> None:
        self.run(
            f"CREATE USER IF NOT EXISTS {_ACCOUNT} IDENTIFIED BY '{ADMIN_PASSWORD}'", _ALL_RIGHTS
        )

    @property
    def url(self) -> str:
        return f"mysql://{ADMIN}:{ADMIN_PASSWORD}@{self.server.host}:{self.server.port}"

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(self.mariadb.connect()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse all changes for a block."""
        # With this right, read-only mode would not concern the administrator.
        self.run(f"REVOKE READ_ONLY ADMIN ON *.* FROM {_ACCOUNT}", "SET GLOBAL read_only = ON")
        self.forget_rights()
        try:
            yield
        finally:
            self.run("SET GLOBAL read_only = OFF", _ALL_RIGHTS)

    # Credentials --------------------------------------------------------------------

    def take_inventory(self, prefix: str) -> Inventory:
        """List what bears the prefix; the grants' databases without the escapes."""
        assert prefix, "without a prefix nothing could be told from others' objects"
        pattern = prefix.replace("_", "\\_") + "%"
        with contextlib.closing(self.mariadb.connect()) as connection:
            cursor = connection.cursor()

            def ask(query: str) -> list[tuple[Any, ...]]:
                cursor.execute(query, (pattern,))
                return list(cursor.fetchall())

            databases = ask(
                "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE %s"
            )
            return Inventory(
                objects=frozenset(row[0] for row in databases),
                logins=frozenset(
                    row[0] for row in ask("SELECT user FROM mysql.user WHERE user LIKE %s")
                ),
                grants=frozenset(
                    (user, database.replace("\\", ""))
                    for user, database in ask("SELECT user, db FROM mysql.db WHERE user LIKE %s")
                ),
                sessions=ask(
                    "SELECT id, user, db FROM information_schema.processlist WHERE user LIKE %s"
                ),
            )

    def connect(self, credentials: Details) -> "pymysql.Connection[pymysql.cursors.Cursor]":
        return connect_as(dict(credentials))

    def remove(self, credentials: Details, part: str) -> None:
        if part == "database":
            self.run(f"DROP DATABASE `{credentials['db']}`")
        else:
            self.run(f"DROP USER `{credentials['user']}`@'%'")

    # Refusals -----------------------------------------------------------------------

    def creation_rights(self) -> list[Right]:
        rights = {
            "GRANT ALL": "GRANT OPTION",
            # Either of the two is enough for it.
            "CREATE USER": "CREATE USER, INSERT",
            "CREATE DATABASE": "CREATE",
        }
        return [self._right(step, right) for step, right in rights.items()]

    def removal_right(self, credentials: Details) -> Right:
        return self._right("DROP DATABASE", "DROP")

    def _right(self, step: str, right: str) -> Right:
        return Right(step, f"REVOKE {right} ON *.* FROM {_ACCOUNT}", _ALL_RIGHTS)

    def foreigners(self, prefix: str, number: int, type_: str) -> list[Foreign]:
        kind = {"sandbox": "sand", "transformations": "tran"}[type_]
        name = f"{prefix}{kind}_70_{number}"
        database = Foreign(
            "database",
            (
                f"CREATE DATABASE `{name}`",
                f"CREATE TABLE `{name}`.theirs (a INT)",
                f"INSERT INTO `{name}`.theirs VALUES (42)",
            ),
            f"SELECT a FROM `{name}`.theirs",
            f"DROP DATABASE `{name}`",
        )
        login = Foreign(
            "login",
            (f"CREATE USER `{name}`@'%' IDENTIFIED BY 'theirs'",),
            f"SELECT Priv FROM mysql.global_priv WHERE User = '{name}'",
            f"DROP USER `{name}`@'%'",
        )
        # A sandbox's login is the person's, not the number's.
        return [database] if type_ == "sandbox" else [database, login]

    def forget_rights(self) -> None:
        """End the administrator's sessions: they keep the global rights they began with."""
        with contextlib.suppress(pymysql.err.OperationalError):
            self.run(f"KILL CONNECTION USER {ADMIN}")
