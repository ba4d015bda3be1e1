"""Names of objects: case folding, quoting and LIKE patterns.

A name is kept as the server stores it, without quotes: upper case unless it was quoted.
"""

import re

#: A name with its containers, outermost first: (database, schema, table).
ObjectName = tuple[str, ...]

_PLAIN = re.compile(r"[A-Z_][A-Z0-9_$]*\Z")


def show(name: ObjectName) -> str:
    """Return a name as the server prints it, quoted where it has to be."""
    return ".".join(part if _PLAIN.match(part) else quote(part) for part in name)


def quote(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def like(pattern: str) -> re.Pattern[str]:
    """Return the case-insensitive pattern of SHOW ... LIKE, where a backslash escapes."""
    pieces = []
    escaped = False
    for character in pattern:
        if escaped or character not in "%_\\":
            pieces.append(re.escape(character))
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            pieces.append(".*" if character == "%" else ".")
    return re.compile("".join(pieces), re.IGNORECASE | re.DOTALL)
