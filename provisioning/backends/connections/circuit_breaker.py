"""A circuit per server: after several silent failures, callers fail at once for a while."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from provisioning.backends.base import EngineBusy, EngineUnavailable
from provisioning.configuration.metrics import CIRCUIT_OPEN

FAILURES_TO_OPEN = 3
OPEN_SECONDS = 3.0


class CircuitBreaker:
    """Lets calls through until three in a row found the server unavailable.

    Then one call in three seconds tries again, and the first success closes the circuit. A
    hung server so costs a few waits, not every thread of the process.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._failures = 0
        self._try_at = 0.0

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Run the block, or raise ``EngineUnavailable`` at once while the circuit is open."""
        self._enter()
        try:
            yield
        except EngineBusy:
            raise
        except EngineUnavailable:
            with self._lock:
                self._failures += 1
                if self._failures == FAILURES_TO_OPEN:
                    CIRCUIT_OPEN.labels(self._server).set(1)
                self._try_at = time.monotonic() + OPEN_SECONDS
            raise
        if self._failures:
            if self._failures >= FAILURES_TO_OPEN:
                CIRCUIT_OPEN.labels(self._server).set(0)
            self._failures = 0

    def _enter(self) -> None:
        if self._failures < FAILURES_TO_OPEN:
            return
        with self._lock:
            if time.monotonic() < self._try_at:
                raise EngineUnavailable(f"server {self._server} did not answer lately")
            # This caller is the trial; the next one is due only after another pause.
            self._try_at = time.monotonic() + OPEN_SECONDS
