"""A shared picture of the open sessions of a server, so that reads do not query it each."""

import threading
import time
from collections.abc import Callable, Mapping

#: Seconds a picture serves; a server is asked this often at most under steady load.
PICTURE_SECONDS = 1.0
#: Pictures that may be taken beyond that after a quiet time, so that a lone reader is
#: never told an old "not in use".
SPARE_PICTURES = 20

#: Databases (or None) of the open sessions, by user name.
Picture = Mapping[str, frozenset[str | None]]


class SessionPicture:
    """The sessions of one server, by user name, at most a second old.

    A picture that shows the user connected is believed for its second. One that does not is
    taken anew while spare pictures last, because a connection may have come since.
    """

    def __init__(self, take: Callable[[], Picture]) -> None:
        self._take = take
        self._lock = threading.Lock()
        self._picture: Picture = {}
        self._started = float("-inf")
        self._spare = float(SPARE_PICTURES)
        self._counted = time.monotonic()

    def databases_of(self, user: str, database: str | None = None) -> frozenset[str | None]:
        """Return the current databases of the user's sessions; empty when none is open.

        With ``database``, the picture is believed only if a session is in that database.
        """
        asked = time.monotonic()
        with self._lock:
            found = self._picture.get(user, frozenset())
            shown = bool(found) if database is None else database in found
            if not self._serves(asked, shown):
                self._renew()
                found = self._picture.get(user, frozenset())
            return found

    def _serves(self, asked: float, shown: bool) -> bool:
        if self._started >= asked:
            return True
        fresh = time.monotonic() - self._started < PICTURE_SECONDS
        return fresh and (shown or not self._has_spare())

    def _has_spare(self) -> bool:
        now = time.monotonic()
        self._spare = min(SPARE_PICTURES, self._spare + (now - self._counted) / PICTURE_SECONDS)
        self._counted = now
        return self._spare >= 1

    def _renew(self) -> None:
        self._has_spare()
        self._spare = max(0.0, self._spare - 1)
        started = time.monotonic()
        self._picture = self._take()
        self._started = started
