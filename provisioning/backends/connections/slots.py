"""How many callers may use one server at once, and the queue for its connections."""

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

    They queue only while the server answers other callers. At a silent server they fail at once,
    so it blocks no more threads of the process than it has slots. For a slow server that answers
    a statement now and then, they wait up to ``timeout`` seconds.
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
        """Hold a slot for the block; raise ``EngineBusy`` when none is free in time."""
        with self._change:
            self._await_slot()
            self._taken += 1
            # Without a caller the server had nothing to answer, so the silence starts now.
            self._answered_at = time.monotonic()
        try:
            yield
        finally:
            with self._change:
                self._taken -= 1
                self._change.notify()

    def answered(self) -> None:
        """Note that the server has just answered a caller."""
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
        """Hold a slot for the block; yield False when none is free."""
        with self._lock:
            free = self._taken[backend, server] < self.width
            self._taken[backend, server] += free
        try:
            yield free
        finally:
            with self._lock:
                self._taken[backend, server] -= free
