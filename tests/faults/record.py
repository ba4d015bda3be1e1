"""What one test did and found: its part of a row in the table of `make chaos`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

#: What the oracle counts. All are zero after every fault.
COUNTERS = ("orphans", "ghosts", "zombies", "open", "double", "lost")
#: The name under which pytest's reports carry the record.
PROPERTY = "chaos"


@dataclass
class Record:
    """Filled by the oracle and the callers, which know it from their ledger, and by the test."""

    #: How often the fault was brought about, and the processes that were killed for it.
    rounds: int = 1
    kills: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    #: Seconds that the slowest request took, repeats included.
    slowest: float = 0.0
    #: Further figures, by their text with a place for the number; the higher, the worse.
    figures: dict[str, float] = field(default_factory=dict)

    def found(self, counts: Mapping[str, int]) -> None:
        """Keep the worst of what was counted at several looks."""
        for name, count in counts.items():
            self.counts[name] = max(self.counts[name], count)

    def waited(self, seconds: float) -> None:
        self.slowest = max(self.slowest, seconds)

    def merge(self, other: "Record") -> None:
        """Add what another test of the same row did and found."""
        self.rounds += other.rounds
        self.kills += other.kills
        self.waited(other.slowest)
        for name, count in other.counts.items():
            self.counts[name] += count
        for text, value in other.figures.items():
            self.note(text, value)

    def note(self, text: str, value: float) -> None:
        """Keep the worst value of a figure, as in ``note("ready after {:.1f} s", seconds)``."""
        self.figures[text] = max(self.figures.get(text, value), value)
