"""Running and finished statements: their limits, their cancellation, their history."""

import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING

from snowflake_simulator import errors
from snowflake_simulator.clock import Clock
from snowflake_simulator.errors import SnowflakeError

if TYPE_CHECKING:
    from snowflake_simulator.sessions import Session

#: Finished statements that are remembered.
REMEMBERED = 5_000
#: Seconds between two looks at the running statements.
WATCH_SECONDS = 0.05


@dataclass
class Query:
    """One statement of a session. ``text`` has its secrets starred."""

    session: "Session"
    text: str
    started: datetime
    #: Seconds that it may run; 0 for ever.
    timeout: int = 0
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    #: What held when it began, for the history.
    user: str = ""
    role: str = ""
    database: str | None = None
    schema: str | None = None
    warehouse: str | None = None
    status: str = "RUNNING"
    error: SnowflakeError | None = None
    ended: datetime | None = None
    rows: int = 0
    #: Ends what the statement waits for outside Python.
    interrupt: Callable[[], None] | None = None
    _end: SnowflakeError | None = None
    _ending: threading.Event = field(default_factory=threading.Event)

    @property
    def type(self) -> str:
        words = self.text.split(maxsplit=1)
        return words[0].upper() if words else ""

    @property
    def ending(self) -> SnowflakeError | None:
        """The error that the statement has to end with; None while it may go on."""
        return self._end

    def end_with(self, error: SnowflakeError) -> None:
        """Make the statement end with an error as soon as it notices."""
        if self._end is None:
            self._end = error
        self._ending.set()
        if self.interrupt is not None:
            self.interrupt()

    def go_on(self) -> None:
        """Raise what the statement has to end with, if anything."""
        if self._end is not None:
            raise self._end

    def wait(self, seconds: float) -> None:
        """Sleep, as SYSTEM$WAIT does, unless the statement is ended before."""
        self._ending.wait(seconds)
        self.go_on()


class Queries:
    """Every statement the account knows of, and the thread that enforces their limits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._running: dict[str, Query] = {}
        self._finished: deque[Query] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, daemon=True)

    def start_watching(self) -> None:
        self._watchdog.start()

    def stop(self) -> None:
        """End all that runs."""
        self._stopping.set()
        for query in self.running():
            query.end_with(errors.cancelled())
        if self._watchdog.is_alive():
            self._watchdog.join()

    def begin(self, query: Query) -> None:
        with self._lock:
            self._running[query.id] = query

    def finish(self, query: Query, error: SnowflakeError | None) -> None:
        query.ended = self._clock.now()
        query.error = error
        query.status = "SUCCESS" if error is None else "FAILED_WITH_ERROR"
        query.interrupt = None
        with self._lock:
            self._running.pop(query.id, None)
            self._finished.append(query)

    def running(self) -> list[Query]:
        with self._lock:
            return list(self._running.values())

    def history(self) -> Iterator[Query]:
        """Yield the known statements, the latest first."""
        with self._lock:
            known = [*self._finished, *self._running.values()]
        return chain(reversed(known))

    def find(self, identifier: str) -> Query | None:
        return next((query for query in self.history() if query.id == identifier), None)

    def cancel(self, of: Callable[[Query], bool]) -> int:
        """Cancel the running statements that a test picks and return how many they were."""
        chosen = [query for query in self.running() if of(query)]
        for query in chosen:
            query.end_with(errors.cancelled())
        return len(chosen)

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_SECONDS):
            now = self._clock.now()
            for query in self.running():
                ran = (now - query.started).total_seconds()
                if query.timeout and ran >= query.timeout:
                    query.end_with(errors.timed_out(query.timeout))
                elif query.ending is not None and query.interrupt is not None:
                    # The first interrupt may have come before the engine began to work.
                    query.interrupt()
