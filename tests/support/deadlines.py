"""When tests call something broken that has not happened: never because a machine is slow.

A passing test never waits for one of these, so they are generous: ten times what a machine needs
that does nothing else. How fast something is, benchmarks say; a test counts what was started,
made or asked, or compares two times that differ by far more than a slow machine costs. What the
service promises in seconds is a `bar`, and taken at its word by `make chaos` alone.
"""

import os
from collections.abc import Callable
from typing import TypeVar

from devstack import processes

Answer = TypeVar("Answer")

#: Seconds for an answer, a job, a sweep, or the start of one process.
DEADLINE = 60
#: Seconds for what is made of many such steps: all of `make run`, an image, a sandbox.
LONG_DEADLINE = 300
#: Seconds that a statement would last which somebody has to end: more than both.
ENDLESS = 600
#: Seconds for all that clients do while processes die, each time until a claim ends.
CROWD_DEADLINE = 1200
#: Seconds for a whole test of that kind.
TEST_DEADLINE = 1800
#: In the environment, so that further processes of the tests see it.
_STRICT = "STRICT_BARS"


def be_strict() -> None:
    """Let the bars of tests that are imported from now on be what the service promises."""
    os.environ[_STRICT] = "1"


def bar(seconds: float) -> float:
    """Return the seconds that something may take for which the service promises ``seconds``."""
    return seconds if os.environ.get(_STRICT) else 10 * seconds


def wait_until(condition: Callable[[], Answer], *, what: str, timeout: float = DEADLINE) -> Answer:
    """Return the first true answer of ``condition``; TimeoutError names ``what`` was awaited."""
    return processes.wait_until(condition, timeout=timeout, what=what)
