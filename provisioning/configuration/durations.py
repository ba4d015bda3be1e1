"""Durations as operators write them: a number with s, m, h or d behind it."""

import re

_DURATION = re.compile(r"([0-9]+)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def read_seconds(text: str) -> int:
    """Return the seconds of a duration such as ``14d``; raise ``ValueError``."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError("write a number with s, m, h or d behind it, such as 14d")
    return int(found[1]) * _UNITS[found[2]]


def read_lifetime(text: str) -> int | None:
    """Return the seconds of a lifetime, None for ever; raise ``ValueError``."""
    if text.strip().lower() == "none":
        return None
    seconds = read_seconds(text)
    if seconds < 1:
        raise ValueError("must be at least 1s, or none")
    return seconds


def read_leads(text: str) -> tuple[int, ...]:
    """Return the seconds of a list such as ``24h,1h``, the shortest first."""
    return tuple(sorted({read_positive(part) for part in text.split(",") if part.strip()}))


def read_positive(text: str) -> int:
    """Return the seconds of a duration that is not nothing; raise ``ValueError``."""
    seconds = read_seconds(text)
    if seconds < 1:
        raise ValueError("must be at least 1s")
    return seconds
