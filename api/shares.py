"""How callers share what there is a bounded number of: turns, threads, places to wait."""

import threading
from collections import Counter
from collections.abc import Hashable


class Shares:
    """A bounded number of places; a caller may hold at most as many as are left for others.

    Whoever comes alone gets half of them, and ``n`` callers get one part of ``n + 1`` each: one
    part is left for whoever comes next.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self._lock = threading.Lock()
        self._held: Counter[Hashable] = Counter()
        self._taken = 0

    def has_place(self, caller: Hashable) -> bool:
        """Return whether the caller would get a place now."""
        return self._held[caller] < self.places - self._taken

    def take(self, caller: Hashable) -> bool:
        """Take a place, to be given back with `release`; return False if the caller gets none."""
        with self._lock:
            if not self.has_place(caller):
                return False
            self._held[caller] += 1
            self._taken += 1
            return True

    def release(self, caller: Hashable) -> None:
        """Give a place back."""
        with self._lock:
            self._taken -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]
