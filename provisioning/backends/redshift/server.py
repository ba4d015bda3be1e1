"""Connections to one Redshift or PostgreSQL server."""

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import errorcodes, extensions
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE
from sqlalchemy.pool import PoolProxiedConnection

from provisioning.backends.base import (
    EngineBusy,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    step_of,
)
from provisioning.backends.connections.sessions import OpenSessions, group_by_user
from provisioning.backends.naming import quote_sql_name
from provisioning.backends.redshift.dialect import POSTGRESQL, Dialect, detect
from provisioning.backends.servers.server import Driver, EngineStatements, PasswordServer
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import PostgresServer
from provisioning.state.claims import Lease

#: Classes and codes of SQLSTATE after which the same statement may succeed later.
_LATER = {
    errorcodes.LOCK_NOT_AVAILABLE,
    errorcodes.DEADLOCK_DETECTED,
    errorcodes.SERIALIZATION_FAILURE,
    errorcodes.QUERY_CANCELED,
    errorcodes.OBJECT_IN_USE,
    errorcodes.TOO_MANY_CONNECTIONS,
    errorcodes.READ_ONLY_SQL_TRANSACTION,
    errorcodes.DEPENDENT_OBJECTS_STILL_EXIST,
    # PostgreSQL's "tuple concurrently updated", when two account statements meet.
    errorcodes.INTERNAL_ERROR,
}
#: How a server refuses one connection more of a login, whose password it has taken.
_LIMIT_OF_LOGIN = "too many connections for"
#: Seconds any connection of the process may be silent within one statement.
SILENCE_SECONDS = 30.0


class TimedConnection(extensions.connection):
    """A connection whose statements fail when the server is silent for too long."""

    silence_seconds = SILENCE_SECONDS


def _wait(connection: Any) -> None:
    """Wait for the server, with a deadline.

    libpq has no time-out for an answer, so a hung server would block the thread until its machine
    is back. psycopg2 lets us replace its waiting with our own.
    """
    end = time.monotonic() + _patience(connection)
    while (state := connection.poll()) != POLL_OK:
        left = end - time.monotonic()
        descriptor = [connection.fileno()]
        reading, writing = state == POLL_READ, state == POLL_WRITE
        ready = select.select(
            descriptor if reading else [], descriptor if writing else [], [], max(left, 0)
        )
        if not any(ready):
            # The driver closes a connection whose waiting failed.
            raise psycopg2.OperationalError("no answer from the server in time")


def _patience(connection: Any) -> float:
    """Return the seconds a connection waits for its server, here or in the state database."""
    if connection.status == extensions.STATUS_SETUP:
        # While we do the waiting, libpq leaves its own time-out for logins to us as well.
        login = extensions.parse_dsn(connection.dsn).get("connect_timeout")
        if login:
            return float(login)
    return float(getattr(connection, "silence_seconds", SILENCE_SECONDS))


extensions.set_wait_callback(_wait)


class Statements(EngineStatements[tuple[Any, ...]]):
    def __init__(
        self, connection: PoolProxiedConnection, server: str, answered: Callable[[], None]
    ) -> None:
        super().__init__(connection, server, answered)
        self._cursor = connection.cursor()
        self._lease: Lease | None = None
        self._began: float | None = None
        #: The server's number of the session.
        self.process: int = self._cursor.connection.info.backend_pid

    @property
    def seconds(self) -> float:
        """How long the statement runs that another thread is in; 0 between two."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def guard(self, lease: Lease) -> None:
        """Look at the lease before each further statement."""
        self._lease = lease

    def __call__(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        if self._lease is not None:
            self._lease.check()
        self._began = time.monotonic()
        try:
            self._cursor.execute(sql, values or None)
            self._answered()
            return list(self._cursor.fetchall()) if self._cursor.description else []
        except psycopg2.Error as problem:
            raise translate(problem, f"{self._server}: {step_of(sql)}") from None
        finally:
            self._began = None


def translate(problem: psycopg2.Error, where: str) -> EngineError:
    """Return the engine error for a driver error, without the statement's text.

    ``where`` is the server, and the step there.
    """
    code = problem.pgcode or ""
    # A connection that cannot be made has libpq's words alone: the address and the reason.
    words = problem.diag.message_primary or str(problem).strip() or type(problem).__name__
    if not code and _LIMIT_OF_LOGIN in words:
        code = errorcodes.TOO_MANY_CONNECTIONS
    if code == errorcodes.SYNTAX_ERROR:
        words = "syntax error"
    elif code == errorcodes.DEPENDENT_OBJECTS_STILL_EXIST and problem.diag.message_detail:
        # Here the detail names what is in the way of a drop.
        words += f": {problem.diag.message_detail}"
    text = f"server {where}: error {code or 'without a code'}: {words[:300]}"
    if code in _LATER:
        return EngineBusy(text, code)
    # No code: the connection itself failed. 08, 57: lost, shutting down, starting up.
    if not code or code[:2] in ("08", "57", "53"):
        return EngineUnavailable(text, code)
    return EngineRefused(text, code)


class Server(PasswordServer[PostgresServer, Statements]):
    """One server: its admin connections and its open sessions."""

    driver = Driver(psycopg2.Error, translate, Statements)

    #: Read on each new connection.
    dialect: Dialect = POSTGRESQL
    #: Whether sessions can leave transactions behind that are prepared and not committed.
    has_prepared = False

    def connect_as(self, user: str, password: Secret, database: str | None = None) -> Any:
        """Open a connection of the given login, to the configured database if to no other."""
        tls = {"sslmode": self.config.tls_mode, "sslrootcert": self.config.tls_ca}
        options: dict[str, Any] = {name: value for name, value in tls.items() if value}
        return psycopg2.connect(
            connection_factory=type(
                "ServerConnection", (TimedConnection,), {"silence_seconds": self._timeout}
            ),
            host=self.config.host,
            port=self.config.port,
            dbname=database or self.config.database,
            user=user,
            password=password.reveal(),
            connect_timeout=self._timeout,
            **options,
        )

    @contextmanager
    def statements_in(self, database: str) -> Iterator[Statements]:
        """Open an admin connection to another database of the server for the block."""
        try:
            connection = self.connect_admin(database)
        except psycopg2.Error as problem:
            raise translate(problem, f"{self.config.name}: database {database}") from None
        try:
            yield Statements(connection, self.config.name, lambda: None)
        finally:
            connection.close()

    def _connect_admin(self) -> Any:
        return self.connect_admin()

    def connect_admin(self, database: str | None = None) -> Any:
        """Open an admin connection that finds names in the server's own catalog alone."""
        connection = self._admin.log_in(
            lambda password: self._log_in(password, database),
            psycopg2.Error,
            self._timeout / 2,
        )
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            self.dialect = detect(cursor.fetchone()[0])
            for setting in self.dialect.settings:
                cursor.execute(setting)
            cursor.execute(f"SET statement_timeout = {self._timeout * 1000}")
            if self.dialect.is_postgresql:
                cursor.execute("SHOW max_prepared_transactions")
                self.has_prepared = cursor.fetchone() != ("0",)
        return connection

    def _log_in(self, password: Secret, database: str | None = None) -> Any:
        return self.connect_as(self.config.user, password, database)

    def set_admin_password(self, password: Secret, lease: Lease) -> None:
        with self.statements() as run:
            run.guard(lease)
            user = quote_sql_name(self.config.user)
            run(f"ALTER USER {user} PASSWORD %s", password.reveal())

    def _list_sessions(self) -> OpenSessions:
        with self.statements() as run:
            rows = run(f"SELECT DISTINCT * FROM ({self.dialect.sessions}) AS sessions")
        return group_by_user((user, database) for _, user, database in rows)
