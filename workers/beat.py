"""The beat's scheduler."""

import time
from typing import Any

from celery.beat import PersistentScheduler

from workers.messages import count_waiting

#: Messages of upkeep that wait when nobody has taken any for a while.
LONGEST_QUEUE = 250


class Scheduler(PersistentScheduler):  # type: ignore[misc]
    """Sends no sweep to workers that are away: they would find weeks of them when they return.

    It waits by the monotonic clock, as `workers.schedule` does: see there.
    """

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        if count_waiting(entry.options["queue"]) < LONGEST_QUEUE:
            super().apply_entry(entry, producer)

    def _when(self, entry: Any, next_time_to_run: float, **_: Any) -> float:
        return time.monotonic() + max(next_time_to_run, 0.0)
