"""Named points at which the fault tests kill, stop or fail a process.

They do nothing unless ``PROVISIONING_FAILPOINTS`` names a directory, which processes set at their
start with ``watch``. There, a file called like the point arms it; its text says what happens. The
first process to reach the point takes the file away, so one file is one fault, and a missing file
proves that it landed.
"""

import os
import signal
import threading
from pathlib import Path

from provisioning.errors import ConfigurationError

_DIRECTORY = ""
_SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP}


class FailpointError(Exception):
    """The failure that a point armed with ``error`` raises."""


def watch(directory: str) -> None:
    """Look for armed points in a directory from now on; an empty name means no directory."""
    global _DIRECTORY
    _DIRECTORY = directory


def failpoint(name: str) -> None:
    """Mark a boundary between two steps that a crash may fall into."""
    if _DIRECTORY:
        _reach(Path(_DIRECTORY), name)


def _reach(directory: Path, name: str) -> None:
    armed = directory / name
    taken = directory / f".{name}.{os.getpid()}"
    try:
        armed.rename(taken)
    except FileNotFoundError:
        return
    action = taken.read_text().strip()
    taken.unlink()
    if action == "error":
        raise FailpointError(name)
    if action not in _SIGNALS:
        raise ConfigurationError(f"failpoint {name}: unknown action '{action}'")
    # To this thread, so that it does not run on until another one takes the signal.
    signal.pthread_kill(threading.get_ident(), _SIGNALS[action])
