"""What all SHOW statements share: LIKE, IN, STARTS WITH, LIMIT and FROM."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from snowflake_simulator import names
from snowflake_simulator.execution import Execution
from snowflake_simulator.names import ObjectName
from snowflake_simulator.reader import Reader
from snowflake_simulator.results import Column, Result, listed


@dataclass(frozen=True)
class Filter:
    """The clauses behind SHOW <objects>."""

    pattern: str | None = None
    #: The database, or the database and schema; None for the whole account.
    container: ObjectName | None = None
    prefix: str = ""
    limit: int | None = None
    after: str = ""

    def fits(self, name: str) -> bool:
        """Whether an object passes by its own name."""
        if self.pattern is not None and names.like(self.pattern).fullmatch(name) is None:
            return False
        return name.startswith(self.prefix) and (not self.after or name > self.after)

    def holds(self, name: ObjectName) -> bool:
        """Whether an object passes by its own name and by what it is in."""
        inside = self.container is None or name[: len(self.container)] == self.container
        return inside and self.fits(name[-1])

    def answer(self, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> Result:
        ordered = sorted(rows, key=lambda row: str(row["name"]))
        return listed(columns, ordered[: self.limit])


def read_filter(execution: Execution, reader: Reader, *, default: ObjectName | None) -> Filter:
    """Read the clauses up to the end; ``default`` is the container when none is named."""
    pattern = reader.string() if reader.accept("LIKE") else None
    container = _container(execution, reader) if reader.accept("IN") else default
    prefix = reader.string() if reader.accept("STARTS WITH") else ""
    limit = reader.integer() if reader.accept("LIMIT") else None
    after = reader.string() if reader.accept("FROM") else ""
    reader.end()
    return Filter(pattern, container, prefix, limit, after)


def _container(execution: Execution, reader: Reader) -> ObjectName | None:
    if reader.accept("ACCOUNT"):
        return None
    if reader.accept("DATABASE"):
        at_end = reader.ended or reader.at(";")
        database = execution.current_database if at_end else reader.plain_name()
        return None if database is None else (execution.database(database).name,)
    if reader.accept("SCHEMA"):
        return execution.schema(reader.object_name()).name
    name = reader.object_name()
    if len(name) == 1 and name[0] in execution.account.catalog.databases:
        return (execution.database(name[0]).name,)
    return execution.schema(name).name


def current_container(execution: Execution) -> ObjectName | None:
    """Return the session's schema or database, which SHOW lists by default."""
    if execution.current_database is None:
        return None
    if execution.current_schema is None:
        return (execution.current_database,)
    return (execution.current_database, execution.current_schema)


def flag(value: bool) -> str:
    return "Y" if value else "N"
