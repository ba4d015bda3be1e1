"""Files on their way into a container, as a stream of tar entries."""

import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

#: The user that everything in a sandbox belongs to.
USER_ID = 1000
#: Where content may go.
CONTENT_ROOT = PurePosixPath("/data")
CHUNK = 256 * 1024
#: Bytes of small files that wait for each other: each sending costs the engine some 40 ms.
BATCH = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


class TooShort(Exception):
    """A file ended before its announced size."""


class Archive:
    """Puts files into a container, all of them its user's own.

    ``send`` unpacks a stream of tar at the container's root, and ``check`` raises when the
    work shall stop. Small files are collected; ``flush`` sends what is left.
    """

    def __init__(self, send: Callable[[Iterable[bytes]], None], check: Callable[[], None]) -> None:
        self._send = send
        self._check = check
        self._waiting = bytearray()
        #: Directories that have an entry; without one, the engine would make them root's.
        self._made = {CONTENT_ROOT}

    def make_directory(self, path: str) -> None:
        """Make a directory and the ones above it, all the sandbox user's own."""
        place = _content_path(path)
        missing = [p for p in (*reversed(place.parents), place) if p > CONTENT_ROOT]
        for directory in missing:
            if directory not in self._made:
                self._made.add(directory)
                self._waiting += _entry(str(directory), mode=0o755)

    def put(self, path: str, source: BinaryIO, size: int) -> None:
        """Write a file of ``size`` bytes; its size never matters to memory."""
        place = _content_path(path)
        self.make_directory(str(place.parent))
        entry = _entry(str(place), mode=0o644, size=size)
        if len(self._waiting) + size > BATCH:
            self._flush_with(entry, source, size)
            return
        self._waiting += entry
        for chunk in _content(source, size):
            self._waiting += chunk

    def put_secrets(self, directory: str, secrets: dict[str, bytes]) -> None:
        """Write files that only the sandbox's user can read, into a directory of their own."""
        self._waiting += _entry(directory, mode=0o700)
        for name, text in secrets.items():
            self._waiting += _entry(f"{directory}/{name}", mode=0o400, size=len(text))
            self._waiting += text + bytes(-len(text) % _BLOCK)

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            self._check()
            self._send((bytes(self._waiting), _END))
            self._waiting.clear()

    def _flush_with(self, entry: bytes, source: BinaryIO, size: int) -> None:
        def stream() -> Iterator[bytes]:
            yield bytes(self._waiting) + entry
            for chunk in _content(source, size):
                self._check()
                yield chunk
            yield _END

        self._check()
        self._send(stream())
        self._waiting.clear()


def _content_path(path: str) -> PurePosixPath:
    place = PurePosixPath(path)
    if CONTENT_ROOT not in place.parents and place != CONTENT_ROOT or ".." in place.parts:
        raise ValueError(f"{path} is not below {CONTENT_ROOT}")
    return place


def _entry(path: str, *, mode: int, size: int | None = None) -> bytes:
    """Return the header of a file, or without a ``size`` that of a directory."""
    entry = tarfile.TarInfo(path.lstrip("/"))
    entry.uid = entry.gid = USER_ID
    entry.mode = mode
    entry.mtime = int(time.time())
    if size is None:
        entry.type = tarfile.DIRTYPE
    else:
        entry.size = size
    return entry.tobuf(tarfile.PAX_FORMAT)


def _content(source: BinaryIO, size: int) -> Iterator[bytes]:
    """Read exactly ``size`` bytes and fill up the last block."""
    left = size
    while left:
        chunk = source.read(min(CHUNK, left))
        if not chunk:
            raise TooShort(f"{left} of {size} bytes are missing")
        left -= len(chunk)
        yield chunk
    if padding := -size % _BLOCK:
        yield bytes(padding)
