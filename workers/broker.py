"""The broker, as the service uses it: every use survives the broker's restart."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import structlog
from celery import Celery
from kombu.connection import Connection, ConnectionPool

T = TypeVar("T")

log = structlog.get_logger()

#: Connections of one process, as Celery's own pool has.
CONNECTIONS = 10
#: Seconds that one step may take: to get a connection, to send, to hear the answer.
TIMEOUT = 2
#: Seconds without a further try after the broker did not answer.
PAUSE = 1.0
#: Options of a connection for sending. Each kind of broker takes those it knows.
OPTIONS = {
    # RabbitMQ: a message counts as sent once the broker says that it has it. What is written to a
    # connection that has ended is lost without an error.
    "confirm_publish": True,
    "read_timeout": TIMEOUT,
    "write_timeout": TIMEOUT,
    # Redis.
    "socket_timeout": TIMEOUT,
    "socket_connect_timeout": TIMEOUT,
}


class BrokerUnavailable(Exception):
    """The broker did not answer in time, or did not a moment ago."""


class Broker:
    """Sends messages and looks into queues, over a pool of connections of its own.

    A pooled connection may have ended since its last use: the broker was restarted, or took the
    silence for a death. Kombu's pool lends it again and again. So every use here connects anew
    if it has to, and is repeated once, over a new connection, when the old one turns out to be
    over. All that is done here may be done twice.

    Each method raises ``BrokerUnavailable``. While the broker is away, one call in a second
    waits to find that out; the others fail at once.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._silent_until = 0.0

    def send(self, queue: str, task: str, arguments: tuple[Any, ...] = ()) -> None:
        """Send a message."""

        def publish(connection: Connection) -> None:
            self._app.send_task(
                task, arguments, queue=queue, connection=connection, retry=False,
                confirm_timeout=TIMEOUT,
            )  # fmt: skip

        self._use(publish)

    def count_waiting(self, queue: str) -> int:
        """Return how many messages of a queue no worker has taken yet."""

        def look(connection: Connection) -> int:
            with connection.channel() as channel:
                try:
                    return int(channel.queue_declare(queue, passive=True).message_count)
                except connection.channel_errors:
                    # Nobody has sent anything there as yet.
                    return 0

        return self._use(look)

    def read(self, key: str) -> str | None:
        """Return what the broker keeps under a key; None if nothing, or if it keeps no keys."""
        value = self._ask("get", key)
        return value.decode() if isinstance(value, bytes) else value

    def keep(self, key: str, value: int) -> None:
        """Have the broker keep a value, if it is of Redis's kind."""
        self._ask("set", key, value)

    def answers(self, seconds: float) -> bool:
        """Return whether the broker answers within so many seconds; it raises nothing."""
        try:
            self._prober.submit(self._use, _greet).result(seconds)
        except (BrokerUnavailable, TimeoutError):
            return False
        return True

    def _ask(self, command: str, *values: Any) -> Any:
        def ask(connection: Connection) -> Any:
            if connection.transport.driver_type != "redis":
                return None
            with connection.channel() as channel:
                return getattr(channel.client, command)(*values)

        return self._use(ask)

    def _use(self, act: Callable[[Connection], T]) -> T:
        if time.monotonic() < self._silent_until:
            raise BrokerUnavailable
        try:
            with self._lend() as connection:
                return _insist(connection, act)
        except Exception as problem:  # every transport has its own errors
            self._silent_until = time.monotonic() + PAUSE
            log.warning("broker_unavailable", problem=type(problem).__name__)
            raise BrokerUnavailable from problem

    @cached_property
    def _pool(self) -> ConnectionPool:
        # Nobody would send the heartbeats of a connection that lies in a pool.
        connection = self._app.connection_for_write(heartbeat=0, transport_options=OPTIONS)
        return ConnectionPool(connection, CONNECTIONS)

    @cached_property
    def _prober(self) -> ThreadPoolExecutor:
        # A broker that hangs must not hold who asks for its health for longer than they wait.
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="broker-health")

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        # Not as a context of its own, which closes it after an error, and lends it closed.
        connection = self._pool.acquire(block=True, timeout=TIMEOUT)
        try:
            yield connection
        finally:
            connection.release()


def _greet(connection: Connection) -> None:
    connection.channel().close()


def _insist(connection: Connection, act: Callable[[Connection], T]) -> T:
    """Act; and again over a new connection, if the old one turns out to have ended."""
    was_open, start = connection.connected, time.monotonic()
    try:
        return _attempt(connection, act)
    except Exception:
        # A broker that hangs, unlike one that ended the connection, would hang again.
        if not was_open or time.monotonic() - start >= TIMEOUT:
            raise
    return _attempt(connection, act)


def _attempt(connection: Connection, act: Callable[[Connection], T]) -> T:
    try:
        connection.ensure_connection(
            max_retries=1, interval_start=0, interval_step=0, timeout=TIMEOUT
        )
        return act(connection)
    except BaseException:
        # Without a word to the broker: half an answer may still be on its way.
        connection.collect()
        raise
