"""Results of statements, and their form in the protocol's JSON answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

#: Statement types as the protocol numbers them; the connector tells DML by them.
SELECT = 0x1000
INSERT = 0x3100
UPDATE = 0x3200
DELETE = 0x3300
MERGE = 0x3400
SHOW = 0x4400
COMMAND = 0x6000
#: The one command of this kind whose answer has rows to fetch.
MANAGE_TOKENS = 0x6244

_EPOCH = date(1970, 1, 1)
_LONGEST_TEXT = 16_777_216
_LONGEST_BINARY = 8_388_608


@dataclass(frozen=True)
class Column:
    """A result's column; ``type`` is the protocol's name of it."""

    name: str
    type: str = "text"
    precision: int | None = None
    scale: int | None = None

    def described(self) -> dict[str, Any]:
        length = None
        if self.type in ("text", "variant", "array", "object"):
            length = _LONGEST_TEXT
        elif self.type == "binary":
            length = _LONGEST_BINARY
        return {
            "name": self.name,
            "type": self.type,
            "nullable": True,
            "length": length,
            "byteLength": length,
            "precision": self.precision,
            "scale": self.scale,
            "collation": None,
            "database": "",
            "schema": "",
            "table": "",
        }


def number(name: str, precision: int = 38, scale: int = 0) -> Column:
    return Column(name, "fixed", precision, scale)


def moment(name: str) -> Column:
    """A point in time in the session's time zone, which is always UTC."""
    return Column(name, "timestamp_ltz", 0, 9)


@dataclass
class Result:
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]] = ()
    statement_type: int = SELECT
    #: Parameters of the session that the statement changed.
    parameters: Mapping[str, Any] = field(default_factory=dict)


def status(message: str, **parameters: Any) -> Result:
    """The answer of most statements of administration."""
    return Result([Column("status")], [(message,)], COMMAND, parameters)


def counted(statement_type: int, **counts: int) -> Result:
    """The answer of DML: one row of counts, named with underscores for blanks."""
    columns = [number(name.replace("_", " ")) for name in counts]
    return Result(columns, [tuple(counts.values())], statement_type)


def listed(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], statement_type: int = SHOW
) -> Result:
    """The answer of SHOW and DESCRIBE; columns that a row does not name are empty."""
    cells = [[row.get(column.name, _blank(column)) for column in columns] for row in rows]
    return Result(columns, cells, statement_type)


def _blank(column: Column) -> str | None:
    return "" if column.type == "text" else None


def encode_rows(result: Result) -> list[list[str | None]]:
    return [
        [encode(value, column) for value, column in zip(row, result.columns, strict=True)]
        for row in result.rows
    ]


def encode(value: Any, column: Column) -> str | None:
    """Return a value as the protocol's JSON result carries it: always text."""
    match value:
        case None:
            return None
        case bool():
            if column.type == "boolean":
                return "1" if value else "0"
            return "true" if value else "false"
        case datetime():
            return _seconds(value)
        case date():
            return str((value - _EPOCH).days)
        case time():
            whole = value.hour * 3600 + value.minute * 60 + value.second
            return f"{whole}.{value.microsecond * 1000:09d}"
        case bytes() | bytearray():
            return bytes(value).hex().upper()
        case list() | dict() | tuple():
            return json.dumps(value, default=str)
        case Decimal():
            return format(value, "f")
        case _:
            return str(value)


def _seconds(value: datetime) -> str:
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    since = aware - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    sign = "-" if microseconds < 0 else ""
    whole, rest = divmod(abs(microseconds), 1_000_000)
    return f"{sign}{whole}.{rest * 1000:09d}"
