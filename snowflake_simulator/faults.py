"""Faults that a test switches on: silence, and statements that fail."""

import threading
from dataclasses import dataclass

from snowflake_simulator.errors import SnowflakeError


@dataclass
class Failure:
    prefix: str
    error: SnowflakeError
    times: int
    after: bool


class Faults:
    def __init__(self) -> None:
        self._failures: list[Failure] = []
        self._lock = threading.Lock()
        self._answering = threading.Event()
        self._answering.set()

    def hang(self) -> None:
        """Take requests and answer none of them until `release`."""
        self._answering.clear()

    def release(self) -> None:
        self._answering.set()

    def wait_to_answer(self) -> None:
        self._answering.wait()

    def add(self, failure: Failure) -> None:
        with self._lock:
            self._failures.append(failure)

    def strike(self, sql: str, *, after: bool) -> None:
        """Raise the failure that waits for a statement, if one does."""
        text = " ".join(sql.split()).upper()
        with self._lock:
            for failure in self._failures:
                if failure.after == after and text.startswith(failure.prefix):
                    failure.times -= 1
                    if failure.times == 0:
                        self._failures.remove(failure)
                    raise failure.error
