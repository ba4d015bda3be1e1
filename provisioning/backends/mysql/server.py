"""Connections to one MySQL or MariaDB server: errors, and the list of sessions."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pymysql
from pymysql.constants import CR, ER
from sqlalchemy.pool import PoolProxiedConnection

from provisioning.backends.base import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    step_of,
)
from provisioning.backends.connections.sessions import OpenSessions, group_by_user
from provisioning.backends.servers.admin_password import RecordedPasswords, nothing_recorded
from provisioning.backends.servers.server import Driver, EngineStatements, PasswordServer
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import MySQLServer
from provisioning.state.claims import Lease

#: Errors of a working server after which the same statement may succeed later.
_LATER = {
    ER.CON_COUNT_ERROR,
    ER.SERVER_SHUTDOWN,
    ER.LOCK_WAIT_TIMEOUT,
    ER.LOCK_DEADLOCK,
    ER.QUERY_INTERRUPTED,
    ER.OPTION_PREVENTS_STATEMENT,  # read-only
    1836,  # read-only, MySQL
    1927,  # connection was killed, MariaDB
    1969,  # took too long, MariaDB
}

#: Seconds that a statement waits for what others hold before it fails and is repeated.
LOCK_WAIT = 2
#: The part of the time-out of a call after which MariaDB ends a statement.
STATEMENT_SHARE = 0.6
#: What admin sessions rely on, whatever the server's defaults are. Tables that foreign keys of
#: other databases refer to can be dropped.
_SETTINGS = f"""
SET SESSION lock_wait_timeout={LOCK_WAIT}, innodb_lock_wait_timeout={LOCK_WAIT},
foreign_key_checks=0, sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'
"""


class Statements(EngineStatements[tuple[Any, ...]]):
    def __init__(
        self, connection: PoolProxiedConnection, server: str, answered: Callable[[], None]
    ) -> None:
        super().__init__(connection, server, answered)
        self._cursor = connection.cursor()

    def __call__(self, sql: str, *values: Any) -> tuple[tuple[Any, ...], ...]:
        try:
            # The driver interpolates only when there are values, so `%` stands for itself
            # in statements without any.
            self._cursor.execute(sql, values or None)
            self._answered()
            return tuple(self._cursor.fetchall())
        except pymysql.Error as problem:
            raise translate(problem, f"{self._server}: {step_of(sql)}") from None


def translate(problem: pymysql.Error, where: str) -> EngineError:
    """Return the engine error for a driver error; ``where`` is the server, and the step there.

    The text holds the number and, where it cannot quote the statement, the server's words.
    """
    number = problem.args[0] if problem.args and isinstance(problem.args[0], int) else 0
    gone = number == 0 or (number >= CR.CR_ERROR_FIRST and number < 3000)
    words = "" if number == ER.PARSE_ERROR or len(problem.args) < 2 else str(problem.args[1])
    text = f"server {where}: error {number}: {words[:300]}"
    if gone:
        return EngineUnavailable(text, number)
    if number in _LATER:
        return EngineBusy(text, number)
    return EngineRefused(text, number)


class Server(PasswordServer[MySQLServer, Statements]):
    """One server: its admin connections and its open sessions."""

    driver = Driver(pymysql.Error, translate, Statements)

    def __init__(
        self,
        config: MySQLServer,
        timeout: int,
        connections: int,
        recorded: RecordedPasswords = nothing_recorded,
    ) -> None:
        super().__init__(config, timeout, connections, recorded)
        self._tls = ssl.create_default_context(cafile=config.tls_ca) if config.tls_ca else None
        #: Read on each new connection; the family decides a few catalog queries.
        self.is_mariadb = True
        self.grant_wildcards = True

    def connect_as(self, user: str, password: Secret, database: str | None) -> Any:
        """Open a connection of the given login."""
        return self._connect(user, password, database, self._tls)

    def takes_tls_alone(self) -> bool:
        """Return whether the admin login that is refused without TLS gets in with it."""
        if self._tls is not None:
            return False
        # Nothing is sent over it but what was refused a moment ago without it.
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        try:
            self._admin.log_in(
                lambda password: self._connect(self.config.user, password, None, unverified),
                pymysql.Error,
                self._timeout / 2,
            ).close()
        except pymysql.Error:
            return False
        return True

    def _connect(
        self, user: str, password: Secret, database: str | None, context: ssl.SSLContext | None
    ) -> Any:
        # Without TLS settings the driver would load the system's CA bundle, 20 ms, each time.
        tls: dict[str, Any] = {"ssl": context} if context else {"ssl_disabled": True}
        return pymysql.connect(
            host=self.config.host,
            port=self.config.port,
            user=user,
            password=password.reveal(),
            database=database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=self._timeout,
            read_timeout=self._timeout,
            write_timeout=self._timeout,
            **tls,
        )

    def _connect_admin(self) -> Any:
        connection = self.connect_admin()
        with connection.cursor() as cursor:
            cursor.execute(_SETTINGS)
            cursor.execute("SELECT VERSION()")
            self.is_mariadb = "mariadb" in cursor.fetchone()[0].lower()
            if self.is_mariadb:
                # The server gives a statement up before we do, and says so.
                cursor.execute(f"SET SESSION max_statement_time={self._timeout * STATEMENT_SHARE}")
            cursor.execute("SHOW VARIABLES LIKE 'partial_revokes'")
            self.grant_wildcards = (cursor.fetchone() or ("", "OFF"))[1] != "ON"
        return connection

    def connect_admin(self, database: str | None = None) -> Any:
        """Open a connection of the admin login, with the password in force."""
        user = self.config.user
        return self._admin.log_in(
            lambda password: self.connect_as(user, password, database),
            pymysql.Error,
            self._timeout / 2,
        )

    @contextmanager
    def statements_aside(self) -> Iterator[Statements]:
        """Lend a new admin connection, beside those that callers share."""
        try:
            connection = self._connect_admin()
        except pymysql.Error as problem:
            raise translate(problem, f"{self.config.name}: login") from None
        with closing(connection):
            yield Statements(connection, self.config.name, lambda: None)

    def set_admin_password(self, password: Secret, lease: Lease) -> None:
        with self.statements() as run:
            # By its name: with CURRENT_USER() MariaDB accepts the statement and changes nothing.
            ((account,),) = run("SELECT CURRENT_USER()")
            user, _, host = account.rpartition("@")
            lease.check()
            run("ALTER USER %s@%s IDENTIFIED BY %s", user, host, password.reveal())

    def _log_in(self, password: Secret) -> Any:
        return self.connect_as(self.config.user, password, None)

    def _ping(self, connection: Any) -> None:
        connection.ping(reconnect=False)

    @property
    def processlist(self) -> str:
        """The catalog of sessions: MariaDB has performance_schema off, MySQL 8 wants it."""
        schema = "information_schema" if self.is_mariadb else "performance_schema"
        return f"{schema}.processlist"

    def _count_connections(self) -> int:
        with self.statements() as run:
            ((_, number),) = run("SHOW GLOBAL STATUS LIKE 'Connections'")
        return int(number)

    def _list_sessions(self) -> OpenSessions:
        with self.statements() as run:
            rows = run(f"SELECT DISTINCT user, db FROM {self.processlist}")
        return group_by_user((user, database) for user, database in rows)
