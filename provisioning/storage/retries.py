"""How long to wait for a storage, and how to ask it again (contract section 12)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from provisioning.configuration.backoff import Backoff
from provisioning.storage.base import StorageUnavailable

log = structlog.get_logger()

Result = TypeVar("Result")
Pause = Callable[[float], None]

#: Seconds between two attempts.
RETRIES = Backoff(0.5, 30.0)


@dataclass(frozen=True)
class Timeouts:
    """Bounds of all waits, in seconds."""

    connect: float = 10.0
    #: Longest silence within a transfer of data, however long the transfer takes.
    idle: float = 60.0
    #: Longest time of one call, up to the end of its JSON answer.
    call: float = 60.0
    #: Longest time lost to retries of one call, or of one part of a file.
    retries: float = 300.0
    #: Longest run of an export inside the storage.
    export: float = 3600.0


class Interrupted(Exception):
    """An attempt failed in a way that the next one may not."""

    def __init__(self, reason: str, silence: float) -> None:
        super().__init__(reason)
        self.reason = reason
        #: Seconds in which nothing arrived.
        self.silence = silence


def retry_interrupted(attempt: Callable[[float], Result], limit: float, pause: Pause) -> Result:
    """Repeat ``attempt`` while it is ``Interrupted``, until ``limit`` seconds are lost by that.

    Silence and pauses are lost; time in which data arrived is not. ``attempt`` gets the
    seconds that it may still lose.
    """
    lost = 0.0
    for wait in RETRIES.pauses():
        try:
            return attempt(limit - lost)
        except Interrupted as problem:
            reason = problem.reason
            lost += problem.silence
        if lost + wait >= limit:
            break
        log.warning("storage_interrupted", failure=reason, pause=wait)
        pause(wait)
        lost += wait
    # Outside of the handler: what the attempt raised may quote an address with its signature.
    raise StorageUnavailable(reason)
