"""Names of files inside of a sandbox (contract section 8)."""

import re
from collections.abc import Iterable

MANIFEST = ".manifest"
#: Bytes of a destination (contract 8.1) and of a name in a Linux file system.
LONGEST_DESTINATION, LONGEST_NAME = 250, 255
#: Bytes of a name that has room for its manifest's.
LONGEST_WITH_MANIFEST = LONGEST_NAME - len(MANIFEST)

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f/\\]")


def plain_name_problem(name: str) -> str | None:
    """Return why ``name`` is not one plain file name, or None if it is (contract 8.1)."""
    if not name:
        return "it is empty"
    if name in (".", "..") or any(sign in name for sign in "/\\\0"):
        return "it is not a plain file name"
    if len(name.encode()) > LONGEST_DESTINATION:
        return f"it is longer than {LONGEST_DESTINATION} bytes"
    return None


def find_clash(names: Iterable[str]) -> int | None:
    """Return the index of the first name that another one, or its manifest, has taken."""
    taken: set[str] = set()
    for index, name in enumerate(names):
        wanted = {name, name + MANIFEST}
        if wanted & taken:
            return index
        taken |= wanted
    return None


def safe_name(text: str) -> str:
    """Return a text from Storage as a plain file name with room for a manifest's."""
    name = _UNSAFE.sub("_", text)
    if not name.strip("."):
        name = "_" * len(name)
    return name.encode(errors="replace")[:LONGEST_WITH_MANIFEST].decode(errors="ignore")


def manifest_name(name: str) -> str | None:
    """Return the name of a file's manifest; None when no file system could hold it."""
    fits = len(name.encode()) <= LONGEST_WITH_MANIFEST
    return name + MANIFEST if fits else None
