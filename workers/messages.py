"""The messages that wake workers. Each says only that a row may be due."""

from itertools import chain, zip_longest
from typing import Any

from provisioning.background.sweep import FIRST_BATCH, DueWork
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.queues import queue_of, upkeep_beside
from provisioning.credentials import warnings
from workers.app import app
from workers.broker import Broker, BrokerUnavailable

broker = Broker(app)

#: Messages in a queue that a sweep does not count: other sweeps, and jobs that have just come.
UNCOUNTED = 10
#: Messages between two looks at how many wait: others sweep at the same moment.
CHUNK = 20
#: Messages of the beat that wait when nobody has taken any for a while.
LONGEST_QUEUE = 250

#: The name and the arguments of a task.
Message = tuple[str, tuple[Any, ...]]


def backends_of(queue: str) -> frozenset[str]:
    """Return the backends whose work is in a queue."""
    return frozenset(backend for backend in BACKENDS if queue_of(backend) == queue)


def wake(job_id: int, backend: str) -> bool:
    """Tell a worker that a job is due; return False if the broker did not take the message.

    The row is the queue: the worker may find that it is another one's turn, and a lost
    message delays a job until the next sweep, no more.
    """
    return _send(queue_of(backend), ("job", (job_id,)))


def wake_callback(job_id: int, backend: str) -> bool:
    """Tell a worker that the end of a job is to be told."""
    return _send(upkeep_beside(queue_of(backend)), ("callback", (job_id,)))


def wake_drain(backend: str, server: str, size: int) -> bool:
    """Tell a worker to remove what has expired on a server, so many rows at first."""
    return _send(upkeep_beside(queue_of(backend)), ("drain", (backend, server, size)))


def wake_due(due: DueWork, lanes: int) -> int:
    """Send messages for what a sweep has found; ``lanes`` for each server with expired rows.

    Return how many the broker took.

    Every sweep finds the same again while the workers of a queue are away. So what waits there
    already counts for as many rows, and a queue never holds much more than one sweep's messages.
    """
    queues: dict[str, list[Message]] = {}
    for job_id, backend in due.jobs:
        queues.setdefault(queue_of(backend), []).append(("job", (job_id,)))
    upkeep = zip_longest(
        ((backend, ("credentials", (number,))) for number, backend in due.credentials),
        ((backend, ("callback", (number,))) for number, backend in due.callbacks),
    )
    drains = [
        (backend, ("drain", (backend, server, FIRST_BATCH))) for backend, server in due.expired
    ]
    for backend, message in filter(None, chain(drains * lanes, chain.from_iterable(upkeep))):
        queues.setdefault(upkeep_beside(queue_of(backend)), []).append(message)
    return sum(_send_bounded(queue, messages) for queue, messages in queues.items())


def wake_endings(due: warnings.DueWarnings) -> None:
    """Send messages for ends that are near; what does not go out now is due again in a minute."""
    queues: dict[str, list[Message]] = {}
    for task, rows in (("ending", due.sandboxes), ("notice", due.notices)):
        for number, backend in rows:
            queues.setdefault(upkeep_beside(queue_of(backend)), []).append((task, (number,)))
    for queue, messages in queues.items():
        _send_bounded(queue, messages)


def wake_upkeep(queue: str, task: str) -> None:
    """Send a message of the beat, unless so many wait that nobody has taken any for a while."""
    try:
        if broker.count_waiting(queue) < LONGEST_QUEUE:
            broker.send(queue, task)
    except BrokerUnavailable:
        # The next one is due in a moment.
        return


def broker_answers(seconds: float) -> bool:
    """Return whether the broker answers within so many seconds."""
    return broker.answers(seconds)


def _send_bounded(queue: str, messages: list[Message]) -> int:
    position = sent = 0
    try:
        while position < len(messages):
            position = max(position, broker.count_waiting(queue) - UNCOUNTED)
            for message in messages[position : position + CHUNK]:
                broker.send(queue, *message)
                sent += 1
            position += CHUNK
    except BrokerUnavailable:
        # The next sweep finds what is left.
        return sent
    return sent


def _send(queue: str, message: Message) -> bool:
    try:
        broker.send(queue, *message)
    except BrokerUnavailable:
        return False
    return True
