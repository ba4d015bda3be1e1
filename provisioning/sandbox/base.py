"""What the makers of a sandbox and of its content know of each other."""

from collections.abc import Callable
from typing import BinaryIO, Protocol

#: Called with the step, the percent done of the whole job, and a message for people.
Report = Callable[[str, int, str], None]


class ContentRefused(Exception):
    """Text for the caller: what could not be loaded and why."""


class Files(Protocol):
    """The file system of a sandbox that has not started yet. Paths are absolute."""

    def make_directory(self, path: str) -> None:
        """Make a directory and the ones above it, all the sandbox user's own."""

    def put(self, path: str, source: BinaryIO, size: int) -> None:
        """Write a file of ``size`` bytes; its size never matters to memory."""


class Content(Protocol):
    """What a sandbox has from its start."""

    #: Installed, in this order, once the sandbox runs.
    packages: tuple[str, ...]

    def load(self, files: Files, report: Report) -> None:
        """Put everything in place; raise ``ContentRefused`` for what cannot be had."""
