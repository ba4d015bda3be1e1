"""Waits for jobs: one query looks at all that the process waits for."""

import threading
import time

from sqlalchemy import select

from provisioning.errors import StateUnavailable
from provisioning.state.database import Database
from provisioning.state.enums import UNFINISHED_JOBS
from provisioning.state.models import Job

#: Seconds between two looks: a tenth of the time that the newest job has been watched, within
#: these bounds. So its end is seen late by some 5 % of the job's own time.
SHORTEST, LONGEST = 0.004, 0.25
#: Times that a look lasted which pass before the next one: many waits do not load the database.
REST = 4


class _Watched:
    """A job, and who waits for it."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.waiters = 0
        self.ended = threading.Event()


class JobWatch:
    """Waits for jobs on behalf of many threads, which sleep meanwhile.

    The state database is asked: it alone decides, whatever the broker has lost.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._change = threading.Condition()
        self._watched: dict[int, _Watched] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """End all waits before their time, now and from now on."""
        with self._change:
            self._closed = True
            for watched in self._watched.values():
                watched.ended.set()

    def wait(self, job: Job, seconds: float) -> Job:
        """Return the job once it is finished, or as it is after ``seconds``.

        Raises ``StateUnavailable``.
        """
        if job.status not in UNFINISHED_JOBS or seconds <= 0:
            return job
        watched = self._join(job.id)
        try:
            watched.ended.wait(seconds)
        finally:
            self._leave(job.id, watched)
        with self._database.read() as session:
            return session.get_one(Job, job.id)

    def _join(self, job_id: int) -> _Watched:
        with self._change:
            watched = self._watched.setdefault(job_id, _Watched())
            watched.waiters += 1
            if self._closed:
                watched.ended.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
                self._thread.start()
            self._change.notify()
            return watched

    def _leave(self, job_id: int, watched: _Watched) -> None:
        with self._change:
            watched.waiters -= 1
            if watched.waiters == 0 and self._watched.get(job_id) is watched:
                del self._watched[job_id]

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._watched)
                watched = dict(self._watched)
            start = time.monotonic()
            ended = self._ended(list(watched))
            now = time.monotonic()
            with self._change:
                for job_id in ended:
                    # Who waits for it may have changed since the look began.
                    waited_for = self._watched.pop(job_id, None)
                    if waited_for is not None:
                        waited_for.ended.set()
                newest = max(one.since for one in watched.values())
                pause = min(max((now - newest) / 10, SHORTEST, REST * (now - start)), LONGEST)
                # A new waiter is not made to sit out a pause that is meant for old ones.
                self._change.wait(pause)

    def _ended(self, job_ids: list[int]) -> list[int]:
        """Return which of the jobs are finished, or all, if only a look of their own can tell."""
        query = select(Job.id).where(Job.id.in_(job_ids), Job.status.not_in(UNFINISHED_JOBS))
        try:
            with self._database.read() as session:
                return list(session.scalars(query))
        except StateUnavailable:
            return job_ids
