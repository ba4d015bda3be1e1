"""What a measure results in: a figure for each round, its median and spread, and its bar."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """What a median is held against."""

    limit: float
    #: True for "at least": rates; False for "at most": times, ratios, memory.
    at_least: bool = False

    def holds(self, median: float) -> bool:
        """Return whether the median meets the bar."""
        return median >= self.limit if self.at_least else median <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


@dataclass(frozen=True)
class Figure:
    """One line of the result."""

    #: The row of the bars, such as ``P1``.
    row: str
    measure: str
    unit: str
    #: One value for each round.
    values: Sequence[float]
    #: What the service aims at; None for a line that only explains another one.
    aim: Bar | None = None
    #: What must hold for the run to succeed.
    gate: Bar | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        """The lowest and the highest round."""
        return f"{show(min(self.values))} - {show(max(self.values))}"

    @property
    def verdict(self) -> str:
        if self.gate is not None and not self.gate.holds(self.median):
            return "**gate missed**"
        if self.aim is not None and not self.aim.holds(self.median):
            return "gate passed, aim missed" if self.gate else "missed"
        return "pass" if self.aim or self.gate else ""

    @property
    def fails(self) -> bool:
        return self.gate is not None and not self.gate.holds(self.median)


def show(value: float) -> str:
    """Return a value with about three significant digits."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def p50(values: Iterable[float]) -> float:
    return percentile(values, 0.5)


def p99(values: Iterable[float]) -> float:
    return percentile(values, 0.99)


def ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """Return round by round what the first is of the second."""
    return [value / reference for value, reference in zip(values, references, strict=True)]
