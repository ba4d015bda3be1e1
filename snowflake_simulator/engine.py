"""The embedded DuckDB that holds the tables' rows.

It knows nothing of users or rights. A Snowflake schema is one DuckDB schema named
``DATABASE.SCHEMA``; DuckDB compares names without case, so lower-case letters are marked.
"""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import duckdb

from snowflake_simulator.errors import SnowflakeError, session_gone, syntax_error
from snowflake_simulator.names import ObjectName, quote
from snowflake_simulator.results import Column, number

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "memory_limit": "256MB",
    # Extensions would be downloaded, and a place for them made in the home directory.
    "autoinstall_known_extensions": False,
    "extension_directory": os.path.join(os.devnull, "none"),
}
#: Attempts at a statement that lost a race for DuckDB's catalog.
_ATTEMPTS = 10
_TYPES = {
    "BOOLEAN": "boolean",
    "DOUBLE": "real",
    "FLOAT": "real",
    "DATE": "date",
    "TIME": "time",
    "BLOB": "binary",
    "JSON": "variant",
    "VARIANT": "variant",
}
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")


def physical(name: ObjectName) -> str:
    """Return the quoted DuckDB name of a schema or of a table in it."""
    schema = quote(".".join(_marked(part) for part in name[:2]))
    return ".".join([schema, *(quote(_marked(part)) for part in name[2:])])


def _marked(name: str) -> str:
    return "".join(f"{letter}~" if letter.islower() else letter for letter in name)


class Engine:
    """One in-memory database and a connection to it per session."""

    def __init__(self) -> None:
        self._database = duckdb.connect(":memory:", config=_SETTINGS)
        self._database.execute("SET GLOBAL TimeZone = 'UTC'")

    def connect(self) -> "Connection":
        return Connection(self._database.cursor())

    def close(self) -> None:
        self._database.close()
        del self._database


class Connection:
    """A session's connection. One statement runs on it at a time."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor: duckdb.DuckDBPyConnection | None = cursor
        self._lock = threading.Lock()
        self.in_transaction = False

    def run(
        self, sql: str, parameters: Sequence[Any] | None = None
    ) -> tuple[list[Column], list[tuple[Any, ...]]]:
        """Run a statement and return its columns and all its rows."""
        with self._lock:
            for attempt in range(_ATTEMPTS):
                try:
                    cursor = self._open_cursor()
                    cursor.execute(sql, parameters)
                    described = cursor.description or []
                    columns = [_column(str(item[0]), str(item[1])) for item in described]
                    return columns, cursor.fetchall()
                except duckdb.TransactionException as error:
                    if self.in_transaction or attempt == _ATTEMPTS - 1:
                        raise translate(error) from error
                except duckdb.Error as error:
                    raise translate(error) from error
        raise AssertionError("unreachable")

    def begin(self) -> None:
        if not self.in_transaction:
            self.run("BEGIN TRANSACTION")
            self.in_transaction = True

    def commit(self) -> None:
        self._finish("COMMIT")

    def rollback(self) -> None:
        self._finish("ROLLBACK")

    def interrupt(self) -> None:
        """End what runs on the connection now."""
        cursor = self._cursor
        if cursor is not None:
            with suppress(duckdb.Error):
                cursor.interrupt()

    def close(self) -> None:
        """Roll back and close, once what runs now has ended."""
        self.interrupt()
        with self._lock:
            cursor, self._cursor = self._cursor, None
            if cursor is not None:
                cursor.close()

    def _open_cursor(self) -> duckdb.DuckDBPyConnection:
        if self._cursor is None:
            raise session_gone()
        return self._cursor

    def _finish(self, how: str) -> None:
        if self.in_transaction:
            try:
                self.run(how)
            finally:
                self.in_transaction = False


def _column(name: str, kind: str) -> Column:
    base = kind.partition("(")[0]
    if base in _INTEGERS or base.removeprefix("U") in _INTEGERS:
        return number(name)
    if base == "DECIMAL":
        precision, scale = kind.removeprefix("DECIMAL(").rstrip(")").split(",")
        return number(name, int(precision), int(scale))
    if kind == "TIMESTAMP WITH TIME ZONE":
        return Column(name, "timestamp_ltz", 0, 9)
    if kind.startswith("TIMESTAMP"):
        return Column(name, "timestamp_ntz", 0, 9)
    if kind.endswith("[]"):
        return Column(name, "array")
    if base in ("STRUCT", "MAP"):
        return Column(name, "object")
    mapped = _TYPES.get(base, "text")
    return Column(name, mapped, scale=9 if mapped == "time" else None)


def translate(error: duckdb.Error) -> SnowflakeError:
    """Return DuckDB's complaint in the words of the server, as far as they have a match."""
    text = str(error).splitlines()[0]
    match error:
        case duckdb.InterruptException():
            return SnowflakeError("000604", "57014", "SQL execution canceled")
        case duckdb.ParserException():
            return syntax_error(0, text)
        case duckdb.BinderException() | duckdb.CatalogException():
            return SnowflakeError("000904", "42000", f"SQL compilation error: {text}")
        case duckdb.ConversionException():
            return SnowflakeError("100038", "22018", text)
        case duckdb.ConstraintException():
            return SnowflakeError("100072", "22000", text)
        case duckdb.TransactionException():
            return SnowflakeError("000625", "57014", f"Statement has locked out: {text}")
    return SnowflakeError("000603", "XX000", f"SQL execution internal error: {text}")
