"""Admin connections to one server: bounded, tested after idling, behind the server's circuit."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from provisioning.backends.base import EngineBusy, EngineError, EngineUnavailable
from provisioning.backends.connections.circuit_breaker import CircuitBreaker
from provisioning.backends.connections.slots import ConnectionSlots

#: Seconds after which a pooled connection is asked whether it still works before use.
IDLE_SECONDS = 0.5


class AdminPool:
    """Lends admin connections of one server.

    ``connect`` opens one, ``ping`` raises when one is dead, and ``translate`` turns the
    driver's errors (subclasses of ``driver_error``) into ours.
    """

    def __init__(
        self,
        server: str,
        *,
        connect: Callable[[], Any],
        ping: Callable[[Any], None],
        translate: Callable[[Any], EngineError],
        driver_error: type[Exception],
        size: int,
        timeout: float,
    ) -> None:
        self._server = server
        self._open = connect
        self._timeout = timeout
        #: When a caller last found the server silent, and when each caller began to wait.
        self._silent_at = float("-inf")
        self._waiting = threading.local()
        self._ping = ping
        self._translate = translate
        self._driver_error = driver_error
        self._circuit = CircuitBreaker(server)
        self._slots = ConnectionSlots(server, size, timeout)
        self._pool = QueuePool(
            self._connect,
            pool_size=size,
            max_overflow=0,
            reset_on_return=None,
            use_lifo=True,
        )

    @contextmanager
    def lend(self) -> Iterator[PoolProxiedConnection]:
        """Lend a connection; after an error it is closed, and its locks go with it."""
        self._waiting.since = time.monotonic()
        with self._circuit.guard(), self._slots.take():
            connection = self._checkout()
            try:
                yield connection
            except BaseException as problem:
                if isinstance(problem, EngineUnavailable) and not isinstance(problem, EngineBusy):
                    self._silent_at = time.monotonic()
                    _close_aside(connection)
                else:
                    connection.invalidate()
                    connection.close()
                raise
            connection.info["used"] = time.monotonic()
            connection.close()

    def answered(self) -> None:
        """Note that the server has answered a statement just now."""
        self._slots.answered()

    def close(self) -> None:
        """Close the connections that are not lent now."""
        self._pool.dispose()

    def _checkout(self) -> PoolProxiedConnection:
        try:
            connection = self._pool.connect()
            if time.monotonic() - connection.info.get("used", 0.0) > IDLE_SECONDS:
                connection = self._tested(connection)
            return connection
        except self._driver_error as problem:
            error = self._translate(problem)
            # Only the operator can repair a refused admin login. For callers it is an outage.
            raise EngineUnavailable(*error.args) from None

    def _connect(self) -> Any:
        # A caller that waited for a slot while another found the server silent has already waited
        # as long as a call may take. It must not wait again.
        if self._silent_at > self._waiting.since:
            raise EngineUnavailable(f"server {self._server} did not answer just now")
        try:
            return self._open()
        except self._driver_error:
            self._silent_at = time.monotonic()
            raise

    def _tested(self, connection: PoolProxiedConnection) -> PoolProxiedConnection:
        """Return a connection that answers: after a server's restart the pooled ones do not."""
        asked = time.monotonic()
        try:
            self._ping(connection.dbapi_connection)
        except self._driver_error:
            _close_aside(connection)
            if time.monotonic() - asked > self._timeout / 2:
                # The connection is not closed: the server does not answer.
                self._silent_at = time.monotonic()
                raise
            return self._pool.connect()
        return connection


def _close_aside(connection: PoolProxiedConnection) -> None:
    """Close a connection for good, on a thread of its own.

    Some drivers log out first, and wait for a silent server to answer.
    """
    driver_connection: Any = connection.dbapi_connection

    def close() -> None:
        # The connection is not used again, so an error does not matter.
        with suppress(Exception):
            driver_connection.close()

    connection.detach()
    threading.Thread(target=close, daemon=True).start()
