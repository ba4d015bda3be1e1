"""What a simulated project holds, and how a table is exported from it."""

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from provisioning.storage.table_files import read_moment
from tests.support.storage_simulator.file_server import Content
from tests.support.storage_simulator.server import Request

LONG_AGO = datetime(2015, 1, 25, 1, 35, 14, tzinfo=UTC)

Row = Sequence[str]


class ExportFailed(Exception):
    """What an export job ends with."""


@dataclass
class Table:
    """A table and how its exports behave."""

    id: str
    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    #: When each row was changed.
    changed: list[datetime] = field(default_factory=list)
    #: Slices of an export; 0 is one file with a header.
    slices: int = 0
    provider: str = "aws"
    #: How often an export's job is still at work when asked.
    polls: int = 0
    #: What every export ends with.
    error: str = ""
    #: The slices of every export, in place of those made from ``rows``.
    content: list[Content] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def describe(self, root: str) -> dict[str, Any]:
        return {
            "uri": f"{root}/v2/storage/tables/{self.id}",
            "id": self.id,
            "name": self.id.rpartition(".")[2],
            "primaryKey": [],
            "created": "2015-01-25T01:35:14+0100",
            "lastChangeDate": "2015-01-25T01:35:14+0100",
            "lastImportDate": "2015-01-25T01:35:14+0100",
            "columns": self.columns,
            "metadata": [],
            "columnMetadata": {},
            **self.details,
        }

    def export(self, form: Request) -> list[Content]:
        """Return the parts of the file that an export with this form makes."""
        if self.error:
            raise ExportFailed(self.error)
        if self.content:
            return list(self.content)
        rows = self._select(form)
        if not self.slices:
            parts = [_csv([self._chosen(form), *rows])]
        else:
            size = -(-len(rows) // self.slices) or 1
            parts = [_csv(rows[n * size : (n + 1) * size]) for n in range(self.slices)]
        return [gzip.compress(part) if form.one("gzip") == "1" else part for part in parts]

    def _chosen(self, form: Request) -> list[str]:
        return form.one("columns").split(",") if form.one("columns") else self.columns

    def _select(self, form: Request) -> list[Row]:
        places = [self._place(column) for column in self._chosen(form)]
        rows = list(zip(self.rows, self.changed or [LONG_AGO] * len(self.rows), strict=True))
        if form.one("whereColumn"):
            place, values = self._place(form.one("whereColumn")), form.every("whereValues[]")
            wanted = form.one("whereOperator") == "eq"
            rows = [pair for pair in rows if (pair[0][place] in values) is wanted]
        if form.one("changedSince"):
            start = read_moment(form.one("changedSince"), datetime.now(UTC))
            rows = [pair for pair in rows if pair[1] >= start]
        if form.one("limit"):
            rows = rows[: int(form.one("limit"))]
        return [[row[place] for place in places] for row, _ in rows]

    def _place(self, column: str) -> int:
        if column not in self.columns:
            raise ExportFailed(f'Column "{column}" was not found in the table "{self.id}"')
        return self.columns.index(column)


@dataclass
class File:
    """A file; a sliced one has its manifest under ``read_key``."""

    id: int
    name: str
    bucket: str
    key: str
    read_key: str
    size: int
    tags: list[str]
    run_id: str
    sliced: bool

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "created": "2016-06-22T10:44:35+0200",
            "isPublic": False,
            "isSliced": self.sliced,
            "isEncrypted": True,
            "name": self.name,
            "sizeBytes": self.size,
            "tags": self.tags,
            "maxAgeDays": 15,
            "runId": self.run_id or None,
        }

    def matches(self, request: Request) -> bool:
        wanted = set(request.every("tags[]"))
        parent = request.one("runId")
        query = request.one("q").partition(":")
        return (
            (not wanted or bool(wanted & set(self.tags)))
            and (not parent or f"{self.run_id}.".startswith(f"{parent}."))
            and (not query[0] or query[2] in {"name": [self.name], "tags": self.tags}[query[0]])
        )


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
