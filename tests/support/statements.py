"""What the state database was asked, and how SQLite would go about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from provisioning.state.database import Database

Statements = list[tuple[str, Any]]


@contextmanager
def statements_of(database: Database) -> Iterator[Statements]:
    """Collect the statements of a block, with their parameters."""
    found: Statements = []

    def collect(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        found.append((statement, parameters))

    engines = (database._reading, database._writing)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", collect)
    try:
        yield found
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", collect)


def plans_of(database: Database, statements: Statements) -> list[str]:
    """Return SQLite's plan of each statement, as lines such as ``SEARCH jobs USING ...``."""
    plans = []
    with database.connect() as connection:
        for statement, parameters in statements:
            if not statement.startswith("BEGIN"):
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans.append("\n".join(row.detail for row in rows))
    return plans
