"""The beat's scheduler."""

import time
from typing import Any

from celery.beat import PersistentScheduler

from workers.messages import wake_upkeep


class Scheduler(PersistentScheduler):  # type: ignore[misc]
    """Sends no sweep to workers that are away: they would find weeks of them when they return.

    It waits by the monotonic clock, as `workers.schedule` does: see there.
    """

    #: Celery's own would wait here for a broker that is away.
    producer = None

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        wake_upkeep(entry.options["queue"], entry.task)

    def _when(self, entry: Any, next_time_to_run: float, **_: Any) -> float:
        return time.monotonic() + max(next_time_to_run, 0.0)
