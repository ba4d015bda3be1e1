"""Downloads of parts of files, in constant memory and with a bound on every wait."""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from typing import BinaryIO

import requests
from urllib3.exceptions import HTTPError

from provisioning.storage.base import StorageRefused
from provisioning.storage.retries import Interrupted, Pause, Timeouts, retry_interrupted

BLOCK = 256 * 1024
#: Bytes within ``Timeouts.idle`` below which a transfer counts as silent.
LEAST_PROGRESS = 4096
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Address:
    """Where to get bytes; both parts carry secrets."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)


class AccessRefused(Exception):
    """The credentials of an address were not taken. They may have run out."""


class Transfer:
    """Downloads from addresses that are made anew for each try, since signatures run out."""

    def __init__(self, session: requests.Session, timeouts: Timeouts, pause: Pause) -> None:
        self._session = session
        self._timeouts = timeouts
        self._pause = pause

    def download(
        self, address: Callable[[], Address], what: str, target: BinaryIO, *, unpack: bool = False
    ) -> None:
        """Append the bytes to ``target``, which is cut back after an interruption.

        ``unpack`` undoes gzip, where the bytes are gzip.
        """
        start = target.tell()

        def attempt(left: float) -> None:
            target.seek(start)
            target.truncate()
            blocks = self._blocks(address(), what, left)
            for block in _unpack(blocks, what) if unpack else blocks:
                target.write(block)

        retry_interrupted(attempt, self._timeouts.retries, self._pause)

    def read(self, address: Callable[[], Address], what: str, largest: int) -> bytes:
        """Return a short file. Raises ``StorageRefused`` if it is longer than ``largest``."""

        def attempt(left: float) -> bytes:
            body = BytesIO()
            for block in self._blocks(address(), what, left):
                if body.write(block) and body.tell() > largest:
                    raise StorageRefused(f"{what} is too long.")
            return body.getvalue()

        return retry_interrupted(attempt, self._timeouts.retries, self._pause)

    def _blocks(self, address: Address, what: str, left: float) -> Iterator[bytes]:
        heard = time.monotonic()
        idle = min(self._timeouts.idle, left)
        try:
            with self._session.get(
                address.url,
                headers={"Accept-Encoding": "identity", **address.headers},
                timeout=(min(self._timeouts.connect, left), idle),
                allow_redirects=False,
                stream=True,
            ) as answer:
                problem = _read_status(answer.status_code, what)
                if not problem:
                    for block in _flowing(answer, idle):
                        yield block
                        heard = time.monotonic()
                    return
        except (requests.RequestException, HTTPError):
            problem = f"{what} stopped arriving."
        raise Interrupted(problem, time.monotonic() - heard)


def _flowing(answer: requests.Response, idle: float) -> Iterator[bytes]:
    """Yield what arrives, as it was stored; stop with an error when it only trickles."""
    begin, arrived = time.monotonic(), 0
    while block := answer.raw.read1(BLOCK, decode_content=False):
        yield block
        arrived += len(block)
        if arrived >= LEAST_PROGRESS:
            begin, arrived = time.monotonic(), 0
        elif time.monotonic() - begin > idle:
            raise requests.Timeout


def _read_status(status: int, what: str) -> str:
    """Return why the bytes do not come now, or ''; raise if they never will."""
    if 200 <= status < 300:
        return ""
    if status in (400, 401, 403):
        # S3 answers 400 to temporary credentials that ran out.
        raise AccessRefused
    if 400 <= status < 500 and status not in (408, 429):
        raise StorageRefused(f"{what} is not there: the file storage answered {status}.")
    return f"{what} did not arrive: the file storage answered {status}."


def _unpack(blocks: Iterator[bytes], what: str) -> Iterator[bytes]:
    """Undo gzip; CSV in UTF-8 cannot begin with its mark."""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= len(GZIP):
            break
    rest = chain([head], blocks)
    return _gunzip(rest, what) if head.startswith(GZIP) else rest


def _gunzip(blocks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """Yield the content of one or several gzip members in pieces of bounded size."""
    engine = zlib.decompressobj(wbits=31)
    try:
        for block in blocks:
            while block:
                if engine.eof:
                    engine = zlib.decompressobj(wbits=31)
                yield engine.decompress(block, BLOCK)
                block = engine.unconsumed_tail or engine.unused_data
        yield engine.flush()
    except zlib.error:
        raise Interrupted(f"{what} is not whole.", 0) from None
    if not engine.eof:
        raise Interrupted(f"{what} is not whole.", 0)
