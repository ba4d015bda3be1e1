"""How often something may be done in a minute, counted by each process for itself."""

import threading
import time
from collections import Counter
from collections.abc import Callable

MINUTE = 60


class Pace:
    """At most ``limit`` turns a minute for each key; 0 is no limit.

    Minutes begin at the same moment for all keys, so the counts of one are all that is kept.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def take(self, key: str) -> int:
        """Take a turn and return 0, or return the seconds until there is one again."""
        with self._lock:
            left = self._left(key)
            if not left:
                self._counts[key] += 1
            return left

    def left(self, key: str) -> int:
        """Return what `take` would, without taking a turn."""
        with self._lock:
            return self._left(key)

    def _left(self, key: str) -> int:
        minute, second = divmod(int(self._clock()), MINUTE)
        if minute != self._minute:
            self._minute = minute
            self._counts.clear()
        return MINUTE - second if 0 < self._limit <= self._counts[key] else 0
