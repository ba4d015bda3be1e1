"""The reference: the same SQL as the service runs, from a plain script over warm connections."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import pymysql

from devstack.mariadb import MariaDB

PASSWORD = "Benchmark4711plainpassword"
_numbers = count(1)


def connect(
    mariadb: MariaDB, user: str = "root", password: str | None = None, database: str | None = None
) -> Any:
    """Open a connection, by default the administrator's."""
    return pymysql.connect(
        host=mariadb.host,
        port=mariadb.port,
        user=user,
        password=mariadb.password if password is None else password,
        database=database,
        autocommit=True,
        # Looking for the system's certificates would take 20 ms.
        ssl_disabled=True,
    )


def run(connection: Any, *statements: str) -> tuple[tuple[Any, ...], ...]:
    """Run statements one by one and return the rows of the last."""
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return tuple(cursor.fetchall())


def new_name() -> str:
    """Return a name for a login and its database that was not used before."""
    return f"raw_{next(_numbers)}"


def create(connection: Any, name: str) -> None:
    """Make a database, a login and its grant: the three statements of a creation."""
    pattern = name.replace("_", "\\_")
    run(
        connection,
        f"CREATE DATABASE `{name}`",
        f"CREATE USER `{name}`@`%` IDENTIFIED BY '{PASSWORD}' REQUIRE NONE "
        "WITH MAX_USER_CONNECTIONS 0 MAX_STATEMENT_TIME 0",
        f"GRANT ALL PRIVILEGES ON `{pattern}`.* TO `{name}`@`%`",
    )


def end(connection: Any, name: str) -> None:
    """End the login's sessions and drop both: list, KILL, DROP USER, DROP DATABASE."""
    sessions = run(
        connection, f"SELECT id FROM information_schema.processlist WHERE user = '{name}'"
    )
    run(
        connection,
        *(f"KILL CONNECTION {session}" for (session,) in sessions),
        f"DROP USER `{name}`@`%`",
        f"DROP DATABASE `{name}`",
    )


def open_session(mariadb: MariaDB, user: str, password: str, database: str) -> Any:
    """Log in as a credential's owner and make one table."""
    session = connect(mariadb, user, password, database)
    run(session, "CREATE TABLE work (a INT)")
    return session


def timed(action: Callable[[], Any]) -> float:
    """Return the milliseconds an action takes."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def drop(connection: Any, name: str) -> None:
    """Drop a login and its database, and nothing else."""
    run(connection, f"DROP USER `{name}`@`%`", f"DROP DATABASE `{name}`")


def create_in_parallel(connections: list[Any], amount: int) -> float:
    """Make ``amount`` credentials with one thread for each connection; return the rate."""
    return in_parallel(create, connections, [new_name() for _ in range(amount)])


def in_parallel(
    action: Callable[[Any, str], None], connections: list[Any], names: list[str]
) -> float:
    """Do something for each name, with one thread for each connection; return the rate."""
    shares = [names[position :: len(connections)] for position in range(len(connections))]

    def work(connection: Any, share: list[str]) -> None:
        for name in share:
            action(connection, name)

    with ThreadPoolExecutor(len(connections)) as pool:
        start = time.perf_counter()
        list(pool.map(work, connections, shares))
        return len(names) / (time.perf_counter() - start)


@contextmanager
def restored(connection: Any) -> Iterator[None]:
    """Drop the logins and databases that a block made.

    Account statements slow down with the number of accounts: so each leg of a comparison
    finds the same number.
    """
    users, databases = _users(connection), _databases(connection)
    yield
    made = sorted(_users(connection) - users)
    for start in range(0, len(made), 100):
        accounts = ", ".join(f"`{name}`@`%`" for name in made[start : start + 100])
        run(connection, f"DROP USER {accounts}")
    for name in _databases(connection) - databases:
        run(connection, f"DROP DATABASE `{name}`")


def count_users(connection: Any) -> int:
    """Return how many logins the server has."""
    return len(_users(connection))


def _users(connection: Any) -> set[str]:
    return {name for (name,) in run(connection, "SELECT User FROM mysql.user WHERE Host = '%'")}


def _databases(connection: Any) -> set[str]:
    return {name for (name,) in run(connection, "SHOW DATABASES")}
