"""What the servers of all databases share: admin connections, and statements run on one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy.pool import PoolProxiedConnection

from provisioning.backends.base import EngineError
from provisioning.backends.connections.pool import AdminPool
from provisioning.backends.connections.sessions import OpenSessions, SessionCache
from provisioning.backends.servers.admin_password import (
    AdminPassword,
    RecordedPasswords,
    nothing_recorded,
)
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import SQLServer
from provisioning.state.claims import Lease

ConfigT = TypeVar("ConfigT", bound=SQLServer)
RowT = TypeVar("RowT")
StatementsT = TypeVar("StatementsT", bound="EngineStatements[Any]")


class EngineStatements(ABC, Generic[RowT]):
    """Runs statements on one admin connection and translates the driver's errors.

    ``answered`` is called when the server has answered a statement.
    """

    def __init__(
        self, connection: PoolProxiedConnection, server: str, answered: Callable[[], None]
    ) -> None:
        # The pool's type has no cursors that are context managers.
        self._connection: Any = connection
        self._server = server
        self._answered = answered

    @abstractmethod
    def __call__(self, sql: str, *values: Any) -> Sequence[RowT]:
        """Run one statement, with ``%s`` for each value, and return its rows.

        Raises an ``EngineError`` with the server's code.
        """

    def query_ignoring(
        self, codes: Collection[int | str], sql: str, *values: Any
    ) -> Sequence[RowT] | None:
        """Return the rows, or None when the statement failed with one of the ``codes``."""
        try:
            return self(sql, *values)
        except EngineError as error:
            if error.code in codes:
                return None
            raise

    def ignoring(self, codes: Collection[int | str], sql: str, *values: Any) -> bool:
        """Run a statement; return False when it failed with one of the server's ``codes``."""
        return self.query_ignoring(codes, sql, *values) is not None


@dataclass(frozen=True)
class Driver(Generic[StatementsT]):
    """What differs between the drivers of databases."""

    #: The base class of the driver's errors.
    error: type[Exception]
    #: Turns an error into ours; takes the server's name, and the step there.
    translate: Callable[[Any, str], EngineError]
    statements: Callable[[PoolProxiedConnection, str, Callable[[], None]], StatementsT]


class EngineServer(ABC, Generic[ConfigT, StatementsT]):
    """One server: its configuration and its admin connections."""

    driver: Driver[StatementsT]

    def __init__(self, config: ConfigT, timeout: int, connections: int) -> None:
        self.config = config
        self._timeout = timeout
        self._pool = AdminPool(
            config.name,
            connect=self._connect_admin,
            ping=self._ping,
            translate=lambda problem: self.driver.translate(problem, config.name),
            driver_error=self.driver.error,
            size=connections,
            timeout=timeout,
        )

    @abstractmethod
    def _connect_admin(self) -> Any:
        """Open an admin connection."""

    def _ping(self, connection: Any) -> None:
        """Raise the driver's error when the connection is dead."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    def close(self) -> None:
        """Close the admin connections."""
        self._pool.close()

    @contextmanager
    def statements(self) -> Iterator[StatementsT]:
        """Lend an admin connection."""
        with self._pool.lend() as connection:
            yield self.driver.statements(connection, self.config.name, self._pool.answered)


class PasswordServer(EngineServer[ConfigT, StatementsT]):
    """A server that lists its sessions, and whose admin login has a password to be changed."""

    def __init__(
        self,
        config: ConfigT,
        timeout: int,
        connections: int,
        recorded: RecordedPasswords = nothing_recorded,
    ) -> None:
        super().__init__(config, timeout, connections)
        self._admin = AdminPassword(config.password, lambda: recorded(config.name))
        self.sessions = SessionCache(self._list_sessions, self._count_connections)

    @abstractmethod
    def _list_sessions(self) -> OpenSessions:
        """Ask the server for its open sessions."""

    def _count_connections(self) -> int | None:
        """Return how many connections the server ever accepted; None where it does not tell."""
        return None

    @abstractmethod
    def _log_in(self, password: Secret) -> Any:
        """Open a connection of the admin login with this password."""

    @abstractmethod
    def set_admin_password(self, password: Secret, lease: Lease) -> None:
        """Give our own login another password; sessions that are open stay so."""

    def try_admin_password(self, password: Secret) -> None:
        """Log in with a password of the admin login; raise an ``EngineError`` if that fails."""
        try:
            self._log_in(password).close()
        except self.driver.error as problem:
            raise self.driver.translate(problem, f"{self.config.name}: login") from None
