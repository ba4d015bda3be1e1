"""When the beat sends its messages."""

import time

from celery.schedules import schedstate, schedule


class Steadily(schedule):  # type: ignore[misc]
    """Every so many seconds by the monotonic clock.

    Celery's own schedule reckons with the time of day: after a clock was set back by an hour,
    nothing would be swept for that hour.
    """

    _due_at = 0.0

    def is_due(self, last_run_at: object) -> schedstate:
        """Return whether it is time, and the seconds until to ask again; a yes counts as done."""
        now = time.monotonic()
        if now < self._due_at:
            return schedstate(is_due=False, next=self._due_at - now)
        self._due_at = now + self.seconds
        return schedstate(is_due=True, next=self.seconds)
