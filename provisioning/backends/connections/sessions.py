"""A shared picture of the open sessions of a server, so that reads do not query it each."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from provisioning.backends.base import EngineError

#: Seconds a picture serves.
SNAPSHOT_SECONDS = 1.0

#: Databases (or None) of the open sessions, by user name.
OpenSessions = Mapping[str, frozenset[str | None]]


def group_by_user(rows: Iterable[tuple[str, str | None]]) -> OpenSessions:
    """Return the sessions of a server's list of users and their databases."""
    databases: dict[str, set[str | None]] = {}
    for user, database in rows:
        databases.setdefault(user, set()).add(database)
    return {user: frozenset(names) for user, names in databases.items()}


class SessionCache:
    """The sessions of one server, by user name, at most a second old.

    ``take`` asks the server for a picture, and ``count`` for the number of connections it ever
    accepted, or None where that cannot be had. A picture that shows the user connected is
    believed for its second. One that does not is believed while that number stands still:
    nobody can have come since. So the answer "not in use" is never older than the question,
    and a server that nobody connects to is asked for its sessions once a second at most;
    without the number, each such answer costs a look.
    """

    def __init__(self, take: Callable[[], OpenSessions], count: Callable[[], int | None]) -> None:
        self._take = take
        self._count = count
        self._lock = threading.Lock()
        self._snapshot: OpenSessions = {}
        self._connections: int | None = None
        self._started = float("-inf")
        self._failure: EngineError | None = None
        self._failed_at = float("-inf")

    def databases_of(self, user: str, database: str | None = None) -> frozenset[str | None]:
        """Return the current databases of the user's sessions; empty when none is open.

        With ``database``, the picture is believed only if a session is in that database, or
        none is open at all: an open one may have moved.
        """
        asked = time.monotonic()
        with self._lock:
            if self._failure is not None and self._failed_at > asked:
                # The server kept somebody waiting for as long as a call may take, and us too.
                raise type(self._failure)(*self._failure.args)
            try:
                return self._look(user, database, asked)
            except EngineError as problem:
                self._failure, self._failed_at = problem, time.monotonic()
                raise

    def _look(self, user: str, database: str | None, asked: float) -> frozenset[str | None]:
        found = self._snapshot.get(user, frozenset())
        if self._started < asked and not self._serves(found, database):
            self._renew()
            found = self._snapshot.get(user, frozenset())
        return found

    def _serves(self, found: frozenset[str | None], database: str | None) -> bool:
        """Return whether the picture, taken before the question, still answers it."""
        if time.monotonic() - self._started >= SNAPSHOT_SECONDS:
            return False
        if found:
            return database is None or database in found
        return self._connections is not None and self._count() == self._connections

    def _renew(self) -> None:
        started = time.monotonic()
        # Counted first: who comes between the two is seen by the next comparison.
        self._connections = self._count()
        self._snapshot = self._take()
        self._started = started
