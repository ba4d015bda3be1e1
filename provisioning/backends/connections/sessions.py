"""A shared snapshot of a server's open sessions, so that not every read queries the server."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping

from provisioning.backends.base import EngineError

#: Seconds a snapshot may be used.
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

    ``take`` asks the server for a snapshot. ``count`` asks for the number of connections it ever
    accepted, or returns None if the server does not count them. A snapshot that shows the user
    connected is used for a second. One that does not is used only while that number stays the
    same, because then nobody has connected since. So the answer "not in use" is never older than
    the question, and a server without new connections lists its sessions at most once a second.
    Without the number, each such answer queries the server.
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

        With ``database``, the snapshot is used only if a session is in that database or none is
        open, because an open session may have changed its database since.
        """
        asked = time.monotonic()
        with self._lock:
            if self._failure is not None and self._failed_at > asked:
                # Another caller waited as long as a call may take, and this one waited for it.
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
        """Return whether the snapshot, taken before the question, still answers it."""
        if time.monotonic() - self._started >= SNAPSHOT_SECONDS:
            return False
        if found:
            return database is None or database in found
        return self._connections is not None and self._count() == self._connections

    def _renew(self) -> None:
        started = time.monotonic()
        # Counted first, so the next comparison notices a connection made between the two.
        self._connections = self._count()
        self._snapshot = self._take()
        self._started = started
