"""Connections to one Redshift or PostgreSQL server."""

import select
import threading
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
from provisioning.backends.servers.admin_password import RecordedPasswords, nothing_recorded
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
#: Ends sessions that have more locks than a client needs.
_END_GREEDY = """
SELECT pg_terminate_backend(locks.pid)
FROM (SELECT pid, count(*) AS held FROM pg_locks GROUP BY pid) AS locks
JOIN pg_stat_activity AS activity USING (pid)
WHERE locks.held > %s AND activity.usename LIKE %s
"""
#: Locks of one session that are too many once the table is full, and what no session can have.
MANY_LOCKS, MOST_LOCKS = 500, 2**31
#: Seconds that such a session has to give its locks back.
GREEDY_PATIENCE = 5.0
#: Locks these catalogs, and their indexes, as long as the transaction is open.
_CATALOGS_OF_LOGINS = """
SELECT (SELECT count(*) FROM pg_stat_activity), (SELECT count(*) FROM pg_roles),
    (SELECT count(*) FROM pg_auth_members), (SELECT count(*) FROM pg_database),
    (SELECT count(*) FROM pg_locks)
"""
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
    words = problem.diag.message_primary or type(problem).__name__
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

    def __init__(
        self,
        config: PostgresServer,
        timeout: int,
        connections: int,
        recorded: RecordedPasswords = nothing_recorded,
    ) -> None:
        super().__init__(config, timeout, connections, recorded)
        self._guard: Any = None
        self._guard_lock = threading.Lock()

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

    def end_greedy_sessions(self, logins: str) -> int:
        """End the sessions that fill the server's table of locks, of logins LIKE a pattern.

        No session could be opened then, nor a catalog be read. The guard, opened with the first
        connection, stays in a transaction that has the locks of the catalogs of logins, and has
        run the statement before, so that it needs no lock.
        """
        with self._guard_lock:
            self._open_guard()
            run = Statements(self._guard, self.config.name, lambda: None)
            ended, end = 0, time.monotonic() + GREEDY_PATIENCE
            try:
                while time.monotonic() < end:
                    # A transaction sees the sessions of its first look until it forgets them.
                    run("SELECT pg_stat_clear_snapshot()")
                    found = len(run(_END_GREEDY, MANY_LOCKS, logins))
                    if not found:
                        break
                    ended = max(ended, found)
                    time.sleep(0.05)
            except EngineError:
                self._close_guard()
                raise
            return ended

    def _open_guard(self) -> None:
        if self._guard is not None and not self._guard.closed:
            return
        try:
            self._guard = self.connect_admin()
            self._guard.autocommit = False
            with self._guard.cursor() as cursor:
                cursor.execute("SET idle_in_transaction_session_timeout = 0")
                cursor.execute(_CATALOGS_OF_LOGINS)
                cursor.execute("SELECT pg_stat_clear_snapshot()")
                cursor.execute(_END_GREEDY, (MOST_LOCKS, ""))
        except psycopg2.Error as problem:
            self._close_guard()
            raise translate(problem, f"{self.config.name}: guard") from None

    def _close_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()

    def close(self) -> None:
        super().close()
        with self._guard_lock:
            self._close_guard()

    def _connect_admin(self) -> Any:
        connection = self.connect_admin()
        if self.dialect.has_blocking_pids:
            # Once the table of locks is full, no session can be opened.
            with self._guard_lock:
                self._open_guard()
        return connection

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
            if self.dialect.has_prepared:
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
