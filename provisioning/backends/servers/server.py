"""What the servers of all engines share: admin connections, and statements run on one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from sqlalchemy.pool import PoolProxiedConnection

from provisioning.backends.base import EngineError
from provisioning.backends.connections.pool import AdminPool
from provisioning.configuration.servers import Server

Config = TypeVar("Config", bound=Server)
Run = TypeVar("Run")


class EngineStatements(ABC):
    """Runs statements on one admin connection and translates the driver's errors."""

    @abstractmethod
    def __call__(self, sql: str, *values: Any) -> Sequence[tuple[Any, ...]]:
        """Run one statement, with ``%s`` for each value, and return its rows.

        Raises an ``EngineError`` with the server's code.
        """

    def ignoring(self, codes: Collection[int | str], sql: str, *values: Any) -> bool:
        """Run a statement; return False when it failed with one of the server's ``codes``."""
        try:
            self(sql, *values)
        except EngineError as error:
            if error.code in codes:
                return False
            raise
        return True


class EngineServer(ABC, Generic[Config, Run]):
    """One server: its configuration and its admin connections.

    ``statements`` makes what runs statements on a borrowed connection, and ``translate`` turns
    the driver's errors (subclasses of ``driver_error``) into ours; both take the server's name.
    The first also takes what to call when the server has answered a statement.
    """

    def __init__(
        self,
        config: Config,
        timeout: int,
        connections: int,
        *,
        statements: Callable[[PoolProxiedConnection, str, Callable[[], None]], Run],
        translate: Callable[[Any, str], EngineError],
        driver_error: type[Exception],
    ) -> None:
        self.config = config
        self._timeout = timeout
        self._statements = statements
        self._pool = AdminPool(
            config.name,
            connect=self._connect_admin,
            ping=self._ping,
            translate=lambda problem: translate(problem, config.name),
            driver_error=driver_error,
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
    def statements(self) -> Iterator[Run]:
        """Lend an admin connection."""
        with self._pool.lend() as connection:
            yield self._statements(connection, self.config.name, self._pool.answered)
