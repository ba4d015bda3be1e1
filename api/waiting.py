"""Where the front meets the workers: waking one, and waiting for a job."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from flask import current_app

from api.requests import PASS_ON
from api.shares import Shares
from provisioning import errors
from provisioning.access.tokens import Caller
from provisioning.background.sweep import DueWork
from provisioning.jobs.watching import JobWatch
from provisioning.state.database import Database
from provisioning.state.models import Job
from workers import broker_answers, wake, wake_due


class WaitingRoom:
    """A bounded number of places for requests that wait, some of which streams may take.

    Each waiting request holds a thread of the front. Tokens share the places, so that one whose
    requests wait for workers that are away, or for a slot that is stuck, leaves some for others.
    """

    def __init__(self, database: Database, places: int, streams: int) -> None:
        self._watch = JobWatch(database)
        self._places = Shares(places)
        self._streams = Shares(streams)
        #: Streams look at this.
        self.streams_ended = False

    def end_streams(self) -> None:
        """End all streams soon: their readers come back, to another process."""
        self.streams_ended = True

    def end_waits(self) -> None:
        """End all waits, now and from now on."""
        self._watch.close()

    @contextmanager
    def place(self, caller: Caller) -> Iterator[bool]:
        """Hold a place for the block; yield False if the caller gets none."""
        token = caller.principal.token_id
        seated = self._places.take(token)
        try:
            yield seated
        finally:
            if seated:
                self._places.release(token)

    def wait(self, caller: Caller, job: Job, seconds: float) -> Job:
        """Return the job when it is finished, after ``seconds``, or at once without a place."""
        with self.place(caller) as seated:
            if not seated or seconds <= 0:
                return job
            PASS_ON.get()()
            return self._watch.wait(job, seconds)

    def hold_stream(self, caller: Caller) -> Callable[[], None]:
        """Take a place for a stream; return what gives it back, once or more often.

        Raises ``TooManyStreams``.
        """
        token = caller.principal.token_id
        with ExitStack() as taken:
            for shares in (self._streams, self._places):
                if not shares.take(token):
                    raise errors.TooManyStreams
                taken.callback(shares.release, token)
            PASS_ON.get()()
            return taken.pop_all().close


def waiting_room() -> WaitingRoom:
    """Return the application's waiting room."""
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
