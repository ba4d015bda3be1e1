"""The names of the broker's queues; a test compares those that the Procfile's workers take from."""

from provisioning.configuration.catalog import BACKENDS

DEFAULT_QUEUE = "provisioning"


def queue_of(backend: str) -> str:
    """Return the queue of a backend's jobs: what takes long has workers of its own."""
    slow = BACKENDS[backend].asynchronous if backend in BACKENDS else False
    return f"{DEFAULT_QUEUE}-{backend}" if slow else DEFAULT_QUEUE


def upkeep_beside(queue: str) -> str:
    """Return the queue of sweeps and of what they find, beside a queue of jobs.

    Workers take from both in turn, so that upkeep does not wait behind a thousand jobs, nor a job
    behind upkeep.
    """
    return f"{queue}-upkeep"


#: The queue of the sweeps themselves.
SWEEPS = upkeep_beside(DEFAULT_QUEUE)
