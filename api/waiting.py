"""Where the front meets the workers: waking one, and waiting for a job."""

import threading

from flask import current_app

from provisioning.database import Database
from provisioning.jobs import wait_for_job
from provisioning.models import Job
from workers import wake


class WaitingRoom:
    """A bounded number of places for requests that wait.

    Each waiting request holds a thread of the front. Without a bound, callers waiting for
    workers that are away would keep everybody else from being answered.
    """

    def __init__(self, database: Database, places: int) -> None:
        self._database = database
        self._places = threading.BoundedSemaphore(places)

    def wait(self, job: Job, seconds: float) -> Job:
        """Return the job when it is finished, after ``seconds``, or at once if all is taken."""
        if not self._places.acquire(blocking=False):
            return wait_for_job(self._database, job, 0)
        try:
            return wait_for_job(self._database, job, seconds)
        finally:
            self._places.release()


def wait(job: Job, seconds: float) -> Job:
    """Wait for a job in the application's waiting room."""
    room: WaitingRoom = current_app.extensions["waiting_room"]
    return room.wait(job, seconds)


def wake_worker(job: Job) -> bool:
    """Tell a worker that the job is due; return False if the broker is away."""
    return wake(job.id, job.backend)
