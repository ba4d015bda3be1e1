"""Pauses that grow between the tries of one thing, up to a longest one."""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff; the unit is the caller's."""

    first: float
    longest: float
    factor: float = 2

    def after(self, failures: int) -> int:
        """Return the pause before the next try, after so many that failed before the last."""
        # The bound keeps a row that failed for years from a number no float can hold.
        return int(min(self.first * self.factor ** min(failures, 64), self.longest))

    def pauses(self) -> Iterator[float]:
        """Yield one pause after the other, without end."""
        pause = self.first
        while True:
            yield pause
            pause = min(pause * self.factor, self.longest)
