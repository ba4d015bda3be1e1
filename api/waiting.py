"""Where the front meets the workers: waking one, and waiting for a job."""

import threading
from collections.abc import Callable
from contextlib import ExitStack

from flask import current_app

from provisioning import errors
from provisioning.background.sweep import DueWork
from provisioning.jobs.reading import wait_for_job
from provisioning.state.database import Database
from provisioning.state.models import Job
from workers import broker_answers, wake, wake_due


class WaitingRoom:
    """A bounded number of places for requests that wait, some of which streams may take.

    Each waiting request holds a thread of the front. Without a bound, callers waiting for
    workers that are away would keep everybody else from being answered.
    """

    def __init__(self, database: Database, places: int, streams: int) -> None:
        self._database = database
        self._places = threading.BoundedSemaphore(places)
        self._streams = threading.BoundedSemaphore(streams)

    def wait(self, job: Job, seconds: float) -> Job:
        """Return the job when it is finished, after ``seconds``, or at once if all is taken."""
        if not self._places.acquire(blocking=False):
            return wait_for_job(self._database, job, 0)
        try:
            return wait_for_job(self._database, job, seconds)
        finally:
            self._places.release()

    def hold_stream(self) -> Callable[[], None]:
        """Take a place for a stream; return what gives it back, once or more often.

        Raises ``TooManyStreams``.
        """
        with ExitStack() as taken:
            for places in (self._streams, self._places):
                if not places.acquire(blocking=False):
                    raise errors.TooManyStreams
                taken.callback(places.release)
            return taken.pop_all().close


def hold_stream() -> Callable[[], None]:
    """Take a place for a stream in the application's waiting room; return what gives it back."""
    return _waiting_room().hold_stream()


def wait(job: Job, seconds: float) -> Job:
    """Wait for a job in the application's waiting room."""
    return _waiting_room().wait(job, seconds)


def _waiting_room() -> WaitingRoom:
    room: WaitingRoom = current_app.extensions["waiting_room"]
    return room


def wake_worker(job: Job) -> bool:
    """Tell a worker that the job is due; return False if the broker is away."""
    return wake(job.id, job.backend)


def wake_workers(due: DueWork, lanes: int) -> int:
    """Tell workers what is due; return how many messages the broker took."""
    return wake_due(due, lanes)


def reaches_broker(seconds: float) -> bool:
    """Return whether the broker answers within so many seconds."""
    return broker_answers(seconds)
