"""The places of callers at one server, as many as it has connections, and the queue for them."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from provisioning.backends.base import EngineBusy

#: The part of a statement's time-out after which a server that answers nobody counts as silent.
SILENCE_SHARE = 0.1


class ConnectionSlots:
    """Lets as many callers in as there are connections; further ones queue.

    They queue only while the server answers those before them: at a silent one they fail at
    once, so that it holds no more threads of the process than it has places. A server that is
    slow, but answers a statement now and then, is waited for up to ``timeout`` seconds.
    """

    def __init__(self, server: str, size: int, timeout: float) -> None:
        self._server = server
        self._size = size
        self._timeout = timeout
        self._silence = timeout * SILENCE_SHARE
        self._change = threading.Condition()
        self._taken = 0
        self._answered_at = 0.0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold a place for the block; raise ``EngineBusy`` when there is none in time."""
        with self._change:
            self._await_slot()
            self._taken += 1
            # The silence before is nobody's: whoever comes now has to be given time.
            self._answered_at = time.monotonic()
        try:
            yield
        finally:
            with self._change:
                self._taken -= 1
                self._change.notify()

    def answered(self) -> None:
        """Note that the server has answered somebody just now."""
        self._answered_at = time.monotonic()

    def _await_slot(self) -> None:
        end = time.monotonic() + self._timeout
        while self._taken >= self._size:
            now = time.monotonic()
            silent_at = self._answered_at + self._silence
            if now >= silent_at:
                raise EngineBusy(f"server {self._server}: silent, and all connections wait for it")
            if now >= end:
                raise EngineBusy(f"server {self._server}: all connections busy")
            self._change.wait(min(silent_at, end) - now)


class BatchSlots:
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
