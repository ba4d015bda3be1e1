"""Ids as callers write them (contract 4.2)."""


def read_id(text: str) -> int | None:
    """Return the number of 1 to 18 ASCII digits without a leading zero, else None."""
    if text.isascii() and text.isdigit() and len(text) <= 18 and text[0] != "0":
        return int(text)
    return None
