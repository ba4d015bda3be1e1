"""Shifts the time of day of a Python process, not its monotonic clock.

Python imports this before all else where the directory is on its path. The file that
``WRONG_CLOCK`` names says how many seconds off the time is; it may change while the process
runs. What C code reads by itself, as SQLite does, stays right: as if it ran elsewhere.
"""

import datetime
import os
import time
from typing import Any

_FILE = os.environ["WRONG_CLOCK"]
_right_time, _right_datetime = time.time, datetime.datetime


def _offset() -> float:
    with open(_FILE) as file:
        return float(file.read())


def _wrong_time() -> float:
    return _right_time() + _offset()


class _AnyDatetime(type):
    """What C code has made is a date-time too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _right_datetime)


class _WrongDatetime(datetime.datetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return cls.fromtimestamp(_wrong_time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.fromtimestamp(_wrong_time(), datetime.UTC).replace(tzinfo=None)


# The names by which it is pickled.
_WrongDatetime.__name__ = _WrongDatetime.__qualname__ = "datetime"
_WrongDatetime.__module__ = "datetime"
time.time = _wrong_time
datetime.datetime = _WrongDatetime  # type: ignore[misc]
