"""The messages that wake workers. Each says only that a row may be due."""

import time

import structlog

from workers.app import app

log = structlog.get_logger()

#: Seconds without a further try after the broker did not take a message.
BROKER_PAUSE = 1.0


class _Broker:
    silent_until = 0.0


def wake(job_id: int) -> bool:
    """Tell a worker that a job is due; return False if the broker did not take the message.

    The row is the queue: a lost message delays the job until the next sweep, no more.
    """
    return _send("job", job_id)


def wake_credentials(credentials_id: int) -> bool:
    """Tell a worker that a credential was left in the middle of a step."""
    return _send("credentials", credentials_id)


def _send(task: str, row_id: int) -> bool:
    # While the broker is down, only one call in a second waits to find that out.
    if time.monotonic() < _Broker.silent_until:
        return False
    try:
        app.send_task(task, (row_id,), retry=False)
    except Exception as problem:  # every transport has its own errors
        _Broker.silent_until = time.monotonic() + BROKER_PAUSE
        log.warning("broker_unavailable", problem=type(problem).__name__)
        return False
    return True
