"""The state database: connections, transactions, its clock, and its migrations.

It runs on SQLite, PostgreSQL, MySQL and MariaDB. Reads are single statements without a
transaction; writes are short transactions. Neither is ever held across an engine call.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Select,
    create_engine,
    event,
    select,
    text,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from provisioning.configuration.secrets import Secret
from provisioning.errors import StateUnavailable
from provisioning.state import migrations
from provisioning.state.models import Base, Sequence

#: Longest wait for a connection, a lock or the server, in seconds.
PATIENCE = 10


#: A process that is paused within a transaction must not keep its locks for as long. The
#: transactions here are milliseconds long.
_END_IDLE_TRANSACTIONS = "-c idle_in_transaction_session_timeout=5s"
#: Compiling a statement takes PostgreSQL hundreds of times as long as running any of ours.
_NO_COMPILING = "-c jit=off"


class now_ms(FunctionElement[int]):  # noqa: N801 (it reads as the SQL function it is)
    """The state database's clock: milliseconds since 1970, UTC. No process's clock decides."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _sqlite_now(element: now_ms, compiler: Any, **_: Any) -> str:
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


@compiles(now_ms, "postgresql")
def _postgresql_now(element: now_ms, compiler: Any, **_: Any) -> str:
    # `clock_timestamp()` may change within a statement, so no index would be used for it: all
    # live credentials would be read to find those that have expired.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"


@compiles(now_ms, "mysql")
@compiles(now_ms, "mariadb")
def _mysql_now(element: now_ms, compiler: Any, **_: Any) -> str:
    return "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"


def read_clock(session: Session) -> int:
    """Return the database's time in milliseconds."""
    return session.execute(select(now_ms())).scalar_one()


def next_numbers(session: Session, name: str, count: int = 1) -> list[int]:
    """Take ``count`` new numbers of the sequence ``name`` within the caller's transaction."""
    session.execute(
        update(Sequence).where(Sequence.name == name).values(value=Sequence.value + count)
    )
    last = session.execute(select(Sequence.value).where(Sequence.name == name)).scalar_one()
    return list(range(last - count + 1, last + 1))


def last_number(session: Session, name: str) -> int:
    """Return the last number of the sequence ``name`` that was given out, if only in a block."""
    return session.execute(select(Sequence.value).where(Sequence.name == name)).scalar_one()


def insert_if_absent(
    database: "Database", query: Select[Any], make: Callable[[Session], Base]
) -> None:
    """Add the row that ``make`` returns unless the query finds one already; safe to race."""
    # When another process adds it at the same moment, the unique key decides.
    with suppress(IntegrityError), database.write() as session:
        if session.execute(query.limit(1)).first() is None:
            session.add(make(session))


class NumberBlocks:
    """Numbers of a sequence, taken a hundred at a time by each process.

    They are unique and never given twice, but neither dense nor in the order of time; jobs,
    which need that order, take theirs one by one.
    """

    def __init__(self, database: "Database", name: str, size: int = 100) -> None:
        self._database, self._name, self._size = database, name, size
        self._lock = threading.Lock()
        self._numbers: list[int] = []

    def take(self) -> int:
        """Return the next number."""
        with self._lock:
            if not self._numbers:
                with self._database.write() as session:
                    self._numbers = next_numbers(session, self._name, self._size)[::-1]
            return self._numbers.pop()


class Database:
    """One state database. Reads and writes have connections of their own kind each."""

    def __init__(self, url: Secret, connections: int) -> None:
        self._url = make_url(url.reveal())
        self._sqlite = self._url.get_backend_name() == "sqlite"
        self._reading = self._create_engine(connections, isolation_level="AUTOCOMMIT")
        self._writing = self._create_engine(max(connections // 2, 2), **self._write_options())
        # SQLite has one writer. Threads of this process queue here in order, instead of all
        # of them polling the database's lock.
        self._turn = threading.Lock()
        if self._sqlite:
            event.listen(self._writing, "connect", _prepare_sqlite_writer)
            event.listen(self._reading, "connect", _prepare_sqlite_reader)
            event.listen(self._writing, "begin", _begin_immediate)

    def _create_engine(self, connections: int, **options: Any) -> Engine:
        return create_engine(
            self._url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=PATIENCE,
            hide_parameters=True,
            pool_pre_ping=not self._sqlite,
            connect_args=self._connect_arguments(),
            **options,
        )

    def _write_options(self) -> dict[str, Any]:
        # Repeatable read would let two transactions of MySQL decide on an old picture.
        return {} if self._sqlite else {"isolation_level": "READ COMMITTED"}

    def _connect_arguments(self) -> dict[str, Any]:
        kind = self._url.get_backend_name()
        if kind == "sqlite":
            return {"timeout": PATIENCE, "check_same_thread": False}
        if kind == "postgresql":
            settings = f"-c lock_timeout={PATIENCE}s {_END_IDLE_TRANSACTIONS} {_NO_COMPILING}"
            return {"connect_timeout": PATIENCE, "options": settings}
        arguments: dict[str, Any] = {
            "connect_timeout": PATIENCE,
            "read_timeout": 2 * PATIENCE,
            "init_command": f"SET innodb_lock_wait_timeout={PATIENCE}",
        }
        if not any(key.startswith("ssl") for key in self._url.query):
            # Without a wish for TLS the driver would load the system's CA bundle, 20 ms, for
            # each connection.
            arguments["ssl_disabled"] = True
        return arguments

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session for reads; each statement stands alone.

        Raises ``StateUnavailable`` when the database does not answer.
        """
        with _translate_failures(), Session(self._reading, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a session in one transaction, committed at the end of the block.

        Raises ``StateUnavailable`` when the database does not answer, and lets
        ``IntegrityError`` through: the callers use unique keys to decide races.
        """
        with (
            _translate_failures(),
            self._waited_turn(),
            Session(self._writing, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def _waited_turn(self) -> Iterator[None]:
        if not self._sqlite:
            yield
            return
        if not self._turn.acquire(timeout=PATIENCE):
            raise StateUnavailable(cause=f"no turn to write for {PATIENCE} s")
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Yield a connection for reads without models, which cost a third of those with.

        Raises ``StateUnavailable`` when the database does not answer.
        """
        with _translate_failures(), self._reading.connect() as connection:
            yield connection

    def upgrade(self) -> None:
        """Bring the schema to the newest version."""
        with self._writing.begin() as connection:
            migrations.upgrade(connection)

    def is_current(self) -> bool:
        """Return whether the schema is the one this code was written for.

        Raises ``StateUnavailable`` when the database does not answer.
        """
        try:
            with self.connect() as connection:
                version = connection.execute(text("SELECT version_num FROM alembic_version"))
                return version.scalar() == migrations.NEWEST
        except DBAPIError:
            # The table is missing: nothing was ever migrated.
            return False

    def dispose(self) -> None:
        """Close all connections."""
        self._reading.dispose()
        self._writing.dispose()


@contextmanager
def _translate_failures() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except PoolTimeout as problem:
        raise StateUnavailable(cause="all STATE_CONNECTIONS are in use") from problem
    except DBAPIError as problem:
        if problem.connection_invalidated or _is_outage(problem):
            # Its text might quote a value.
            raise StateUnavailable(cause=type(problem.orig).__name__) from problem
        raise


def _is_outage(problem: DBAPIError) -> bool:
    # PostgreSQL reports a server that is starting or stopping as operational errors, and a
    # missing table as a programming error; MySQL reports the latter as a programming error
    # too, but with SQLite it is operational.
    if isinstance(problem, ProgrammingError):
        return False
    return isinstance(problem, OperationalError) and "no such" not in str(problem.orig)


def _prepare_sqlite_reader(connection: sqlite3.Connection, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _prepare_sqlite_writer(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    # A committed intent must survive a power cut: the object it names will.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA busy_timeout=0")


def _begin_immediate(connection: Connection) -> None:
    """Take SQLite's write lock now, asking every millisecond.

    SQLite's own busy handler waits up to 100 ms between two tries, which other processes'
    commits of a fraction of a millisecond do not deserve.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        except OperationalError as problem:
            if "locked" not in str(problem.orig) or time.monotonic() > end:
                raise
        time.sleep(0.001)
