"""What a simulated server answers, faults included."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Repeated:
    """A large body that is never in memory as a whole."""

    block: bytes
    times: int

    def __len__(self) -> int:
        return len(self.block) * self.times

    def blocks(self) -> Iterator[bytes]:
        return (self.block for _ in range(self.times))


@dataclass(frozen=True)
class Reply:
    """One answer. ``raw`` replaces the JSON of ``body``; ``delay`` comes before all of it."""

    status: int = 200
    body: Any = None
    raw: bytes | Repeated | None = None
    headers: dict[str, str] = field(default_factory=dict)
    #: Seconds of silence before the answer.
    delay: float = 0
    #: Seconds between two bytes of the body; 0 sends it at once.
    drip: float = 0
    #: Close the connection in place of an answer.
    hang_up: bool = False
    #: Close the connection after so many bytes of the body.
    cut: int | None = None
    #: Send the body in chunks, without telling its length.
    chunked: bool = False

    def content(self) -> bytes | Repeated:
        return json.dumps(self.body).encode() if self.raw is None else self.raw
