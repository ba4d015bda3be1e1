"""What a place of tables, files and configurations must do (contract sections 8 and 12).

Data goes straight into an open file, so that its size never matters to memory.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol


class StorageRefused(Exception):
    """The storage said no, such as for a missing table. The text is for the caller."""


class StorageUnavailable(Exception):
    """The storage did not answer well, however often it was asked; later it may."""


@dataclass(frozen=True)
class TableQuery:
    """The columns and rows of a table that are wanted."""

    table_id: str
    #: None is all.
    columns: tuple[str, ...] | None = None
    #: A date-time, or a period back from now such as ``-7 days``.
    changed_since: str | None = None
    where_column: str | None = None
    where_values: tuple[str, ...] = ()
    #: ``eq`` or ``ne``.
    where_operator: str = "eq"
    limit: int | None = None


@dataclass(frozen=True)
class FileQuery:
    """The files that are wanted: those that match all conditions that are given."""

    #: Any one of them matches.
    tags: tuple[str, ...] = ()
    query: str = ""
    #: Only files that were made under this run id.
    run_id: str = ""
    limit: int = 10


class Storage(Protocol):
    """One caller's view of the storage, under the run id of one job.

    Every call raises ``StorageRefused`` or ``StorageUnavailable``.
    """

    def table_details(self, table_id: str) -> dict[str, Any]:
        """Return the answer of ``GET tables/{id}`` with the keys of contract section 12."""

    def export_table(self, query: TableQuery, target: BinaryIO) -> None:
        """Write the rows as CSV with a header line (contract 8.3)."""

    def find_files(self, query: FileQuery) -> list[int]:
        """Return the ids of files, newest first."""

    def file_details(self, file_id: int) -> dict[str, Any]:
        """Return the answer of ``GET files/{id}`` with the keys of contract section 12."""

    def count_parts(self, details: dict[str, Any]) -> int:
        """Return how many slices a sliced file has; 1 for any other."""

    def download_part(self, details: dict[str, Any], number: int, target: BinaryIO) -> None:
        """Write a part of a file, counted from 0, as it was stored."""

    def tag_file(self, file_id: int, tag: str) -> None:
        """Add a tag to a file."""

    def configuration_row(self, config_id: str, version: str, row_id: str) -> dict[str, Any]:
        """Return the ``configuration`` of a transformation's row in that version.

        Raises ``StorageRefused`` with ``Configuration Row not found`` or the name of what is
        missing.
        """


def find_row(version: dict[str, Any], row_id: str) -> dict[str, Any]:
    """Return the configuration of a row."""
    rows = version.get("rows")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and str(row.get("id")) == row_id:
            configuration = row.get("configuration")
            # An empty configuration is written as an empty array.
            return configuration if isinstance(configuration, dict) else {}
    raise StorageRefused(f"Configuration Row not found: {row_id}")
