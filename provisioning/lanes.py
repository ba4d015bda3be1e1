"""How many batches of removals a process has under way on each server."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Lanes:
    """Lets ``width`` callers in at once on each server, and turns further ones away."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._lock = Lock()
        self._taken: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def enter(self, backend: str, server: str) -> Iterator[bool]:
        """Hold a lane for the block; yield False when there is none."""
        with self._lock:
            free = self._taken[backend, server] < self.width
            self._taken[backend, server] += free
        try:
            yield free
        finally:
            with self._lock:
                self._taken[backend, server] -= free
