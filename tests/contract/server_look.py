"""What is on the MariaDB, seen by its administrator and by the logins that were made."""

import threading
from collections.abc import Mapping
from typing import Any, TypeAlias

import pymysql
import pytest

from devstack.mariadb import MariaDB
from tests.support.deadlines import DEADLINE, ENDLESS
from tests.support.servers import connect_as

Connection: TypeAlias = "pymysql.Connection[pymysql.cursors.Cursor]"


def run_as_root(mariadb: MariaDB, sql: str, *values: Any) -> tuple[tuple[Any, ...], ...]:
    with mariadb.connect() as connection:
        return run(connection, sql, *values)


def run(connection: Any, sql: str, *values: Any) -> tuple[tuple[Any, ...], ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return tuple(cursor.fetchall())


def databases_like(mariadb: MariaDB, end: str) -> list[str]:
    """Return the databases whose names end so."""
    rows = run_as_root(mariadb, "SELECT schema_name FROM information_schema.schemata")
    return [name for (name,) in rows if name.endswith(end)]


def databases_of_project(mariadb: MariaDB, project: str) -> list[str]:
    """Return the databases with the project in their names, of any installation."""
    rows = run_as_root(mariadb, "SELECT schema_name FROM information_schema.schemata")
    return [name for (name,) in rows if f"_{project}_" in name]


def database_exists(mariadb: MariaDB, name: str) -> bool:
    sql = "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = %s"
    return bool(run_as_root(mariadb, sql, name)[0][0])


def user_exists(mariadb: MariaDB, name: str) -> bool:
    sql = "SELECT COUNT(*) FROM mysql.global_priv WHERE User = %s"
    return bool(run_as_root(mariadb, sql, name)[0][0])


def grants_on(mariadb: MariaDB, database: str) -> int:
    sql = "SELECT COUNT(*) FROM mysql.db WHERE REPLACE(Db, '\\\\', '') = %s"
    return int(run_as_root(mariadb, sql, database)[0][0])


def require_login(credentials: Mapping[str, Any]) -> None:
    """The login works and may do in its database what it is for."""
    with connect_as(dict(credentials)) as connection:
        run(connection, "CREATE OR REPLACE TABLE login_check (a INT)")
        run(connection, "INSERT INTO login_check VALUES (7)")
        assert run(connection, "SELECT a FROM login_check") == ((7,),)
        run(connection, "DROP TABLE login_check")


def require_no_login(credentials: Mapping[str, Any]) -> None:
    """The server refuses the login: access denied, not an outage."""
    with pytest.raises(pymysql.OperationalError) as refused:
        connect_as(dict(credentials))
    assert refused.value.args[0] in (1045, 4151)


def require_dead(connection: Any) -> None:
    """The connection's next statement fails."""
    with pytest.raises(pymysql.Error):
        run(connection, "SELECT 1")


class RunningStatement:
    """A long statement of a login, running in a thread until somebody ends it."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        self._connection = connect_as(dict(credentials), timeout=ENDLESS)
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            run(self._connection, f"SELECT SLEEP({ENDLESS})")
        except pymysql.Error as problem:
            self.failure = problem

    def require_failed(self) -> None:
        self._thread.join(DEADLINE)
        assert self.failure is not None
