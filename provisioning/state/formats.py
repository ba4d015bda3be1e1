"""Ids as callers write them (contract 4.2)."""

from datetime import UTC, datetime


def read_id(text: str) -> int | None:
    """Return the number of 1 to 18 ASCII digits without a leading zero, else None."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and text[0] != "0":
        return int(text)
    return None


SECOND = 1000


def format_time(milliseconds: int | None) -> str | None:
    """Return the contract's form of a time: ISO 8601, seconds, numeric offset (4.6)."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds // 1000, UTC).isoformat(timespec="seconds")
