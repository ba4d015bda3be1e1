"""The beat's scheduler."""

from typing import Any

from celery.beat import PersistentScheduler

from workers.messages import count_waiting

#: Messages of upkeep that wait when nobody has taken any for a while.
LONGEST_QUEUE = 250


class Scheduler(PersistentScheduler):  # type: ignore[misc]
    """Sends no sweep to workers that are away: they would find weeks of them when they return."""

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        if count_waiting(entry.options["queue"]) < LONGEST_QUEUE:
            super().apply_entry(entry, producer)
