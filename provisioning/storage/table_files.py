"""Rows of a CSV file that a query asks for, read and written one at a time."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, TextIO

from provisioning.storage.base import StorageRefused, TableQuery

#: A column with the time of each row's last change; no column of the table itself.
TIMESTAMP = "_timestamp"
#: Bytes; the module's own limit is far below the cells that databases take.
LARGEST_CELL = 64 * 1024 * 1024

Row = list[str]


def read_columns(path: Path) -> Row:
    """Return the columns of a table."""
    with _open(path) as source:
        return [column for column in next(csv.reader(source), []) if column != TIMESTAMP]


def copy_rows(path: Path, query: TableQuery, target: BinaryIO) -> None:
    """Write the header and the rows that ``query`` asks for."""
    text = TextIOWrapper(target, encoding="utf-8", errors="surrogateescape", newline="")
    with _open(path) as source:
        reader = csv.reader(source)
        try:
            _copy(reader, query, _changed(path), text)
        except csv.Error:
            raise StorageRefused(
                f"Table '{query.table_id}' is not CSV from line {reader.line_num} on."
            ) from None
        finally:
            # The target is the caller's to close.
            text.detach()


def _copy(source: Iterator[Row], query: TableQuery, changed: datetime, target: TextIO) -> None:
    header: Row = next(source, [])
    columns = query.columns or [column for column in header if column != TIMESTAMP]
    chosen = [_position(header, column, query) for column in columns]
    rows = filter(_condition(header, query, changed), _whole_rows(source, len(header)))
    writer = csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\n")
    if chosen:
        pick = itemgetter(*chosen) if len(chosen) > 1 else lambda row: (row[chosen[0]],)
        writer.writerow(columns)
        writer.writerows(map(pick, islice(rows, query.limit)))


def _whole_rows(source: Iterable[Row], width: int) -> Iterator[Row]:
    for row in source:
        if len(row) == width:
            yield row
        elif row:
            raise csv.Error(f"{len(row)} cells")


def _condition(header: Row, query: TableQuery, changed: datetime) -> Callable[[Row], bool]:
    """Return what tells whether a row is wanted; ``changed`` is when the table last was."""
    conditions: list[Callable[[Row], bool]] = []
    if query.where_column and query.where_values:
        place, values = _position(header, query.where_column, query), set(query.where_values)
        wanted = query.where_operator == "eq"
        conditions.append(lambda row: (row[place] in values) is wanted)
    if query.changed_since:
        conditions.append(_changed_since(header, query.changed_since, changed))
    return lambda row: all(condition(row) for condition in conditions)


def _changed_since(header: Row, since: str, changed: datetime) -> Callable[[Row], bool]:
    try:
        start = read_moment(since, datetime.now(UTC))
    except ValueError:
        raise StorageRefused(f"'{since}' is neither a time nor a period.") from None
    if TIMESTAMP not in header:
        return lambda row: changed >= start
    place = header.index(TIMESTAMP)
    return lambda row: _row_time(row[place]) >= start


def _row_time(text: str) -> datetime:
    try:
        return read_moment(text, datetime.now(UTC))
    except ValueError:
        raise csv.Error(text) from None


def _position(header: Row, column: str, query: TableQuery) -> int:
    if column == TIMESTAMP or column not in header:
        raise StorageRefused(f"Table '{query.table_id}' has no column '{column}'.")
    return header.index(column)


def _open(path: Path) -> TextIO:
    csv.field_size_limit(LARGEST_CELL)
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


_PERIOD = re.compile(
    r"([+-]?[0-9]{1,9})\s*(second|sec|minute|min|hour|day|week|month|year)s?(\s+ago)?", re.I
)


#: A month and a year are taken as so many days.
_UNITS = {
    "second": timedelta(seconds=1),
    "sec": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
}


def read_moment(text: str, now: datetime) -> datetime:
    """Return the moment of an ISO date-time, a Unix time or a period from now like ``-7 days``.

    Without an offset it is in UTC. Raises ``ValueError``.
    """
    text = text.strip()
    try:
        period = _PERIOD.fullmatch(text)
        if period:
            number = int(period[1]) * (-1 if period[3] else 1)
            return now + number * _UNITS[period[2].lower()]
        if re.fullmatch(r"[0-9]{9,12}", text):
            return datetime.fromtimestamp(int(text), UTC)
    except OverflowError:
        raise ValueError(f"'{text}' is too far away") from None
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
