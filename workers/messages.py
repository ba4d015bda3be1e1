"""The messages that wake workers. Each says only that a row may be due."""

import time

import structlog

from provisioning.catalog import BACKENDS
from workers.app import app

log = structlog.get_logger()

#: As in the top level module `celeryconfig`.
DEFAULT_QUEUE = "provisioning"
#: Seconds without a further try after the broker did not take a message.
BROKER_PAUSE = 1.0


class _Broker:
    silent_until = 0.0


def queue_of(backend: str) -> str:
    """Return the queue of a backend's work: what takes long has workers of its own."""
    slow = BACKENDS[backend].asynchronous if backend in BACKENDS else False
    return f"{DEFAULT_QUEUE}-{backend}" if slow else DEFAULT_QUEUE


def backends_of(queue: str) -> frozenset[str]:
    """Return the backends whose work is in a queue."""
    return frozenset(backend for backend in BACKENDS if queue_of(backend) == queue)


def wake(job_id: int, backend: str) -> bool:
    """Tell a worker that a job is due; return False if the broker did not take the message.

    The row is the queue: the worker may find that it is another one's turn, and a lost
    message delays a job until the next sweep, no more.
    """
    return _send("job", job_id, backend)


def wake_credentials(credentials_id: int, backend: str) -> bool:
    """Tell a worker that a credential was left in the middle of a step."""
    return _send("credentials", credentials_id, backend)


def wake_callback(job_id: int, backend: str) -> bool:
    """Tell a worker that the end of a job is to be told."""
    return _send("callback", job_id, backend)


def _send(task: str, row_id: int, backend: str) -> bool:
    # While the broker is down, only one call in a second waits to find that out.
    if time.monotonic() < _Broker.silent_until:
        return False
    try:
        app.send_task(task, (row_id,), queue=queue_of(backend), retry=False)
    except Exception as problem:  # every transport has its own errors
        _Broker.silent_until = time.monotonic() + BROKER_PAUSE
        log.warning("broker_unavailable", problem=type(problem).__name__)
        return False
    return True
