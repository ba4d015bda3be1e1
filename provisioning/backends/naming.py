"""Names of the objects made on servers, and the quoting of names into SQL.

Every name starts with the installation's prefix (contract section 10), so the
orphan report can separate our objects from another installation's.
"""

import hashlib
import re
from collections.abc import Callable

USER_NAME_LIMIT = 32
DATABASE_NAME_LIMIT = 64
_FORBIDDEN = re.compile(r"[^A-Za-z0-9_]")


def build_name(prefix: str, *parts: str, limit: int, width: Callable[[str], int] = len) -> str:
    """Join ``prefix`` and ``parts`` into a name of ``[A-Za-z0-9_]``, at most ``limit`` wide.

    A name that had to be cut, or that had other characters, ends in 8 hex digits of the
    digest of the wanted name: two different wishes never share a name.
    """
    wanted = prefix + "_".join(parts)
    safe = _FORBIDDEN.sub("_", wanted)
    if safe == wanted and width(safe) <= limit:
        return safe
    digest = hashlib.sha256(wanted.encode()).hexdigest()[:8]
    kept = safe[:limit]
    while width(f"{kept}_{digest}") > limit:
        kept = kept[:-1]
    return f"{kept}_{digest}"


#: A credential's id in a name (contract 4.2), and a project's, where a name has one. Strict, so
#: that another installation's names, whose prefix starts as ours does, are not taken for ours.
ID_PATTERN = "([1-9][0-9]{0,17})"
PROJECT_PATTERN = "([0-9]+)"


def bears_prefix(name: str, prefix: str, *, folded: bool = False) -> bool:
    """Return whether a name starts with the prefix; ``folded`` names have lost their case."""
    return name.lower().startswith(prefix.lower()) if folded else name.startswith(prefix)


def escaped_width(name: str) -> int:
    """Return the length of a name whose underscores are escaped, as in a MySQL grant."""
    return len(name) + name.count("_")


def person_name_part(person_id: str | None, token_id: str) -> str:
    """Return the person's part of a shared login's name: ``4``, or ``t30680`` without a person.

    A person id that looks like the token form cannot take another one's login: ids that are
    not plain digits are followed by a digest.
    """
    if person_id is None:
        return f"t{token_id}"
    if person_id.isascii() and person_id.isdigit():
        return person_id
    return f"{person_id}_{hashlib.sha256(person_id.encode()).hexdigest()[:8]}"


def quote_sql_name(name: str) -> str:
    """Return ``name`` as an identifier of standard SQL, in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def quote_mysql_name(name: str) -> str:
    """Return ``name`` as a MySQL identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


def granted_database(name: str, *, wildcards: bool) -> str:
    """Return the database ``name`` as GRANT takes it and the catalog of grants keeps it.

    There ``_`` and ``%`` are wildcards, so an unescaped ``w_1`` also opens ``wx1``; with
    ``partial_revokes=ON`` (MySQL 8) they are literal and must not be escaped.
    """
    if wildcards:
        name = name.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    return name
