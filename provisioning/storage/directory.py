"""Tables, files and configurations in a local directory, laid out as docs/storage.md says."""

import fcntl
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

from provisioning.storage.base import (
    FileQuery,
    StorageRefused,
    StorageUnavailable,
    TableQuery,
    find_row,
)
from provisioning.storage.folder import Folder, name_problem
from provisioning.storage.table_files import copy_rows, read_columns

_FILE = re.compile(r"([1-9][0-9]{0,17})_(.+)", re.DOTALL)

Details = dict[str, Any]


class DirectoryStorage:
    """A storage for one machine, which everybody with a token sees in the same way."""

    def __init__(self, path: Path) -> None:
        self._folder = Folder(path)

    # Tables -------------------------------------------------------------------------

    def table_details(self, table_id: str) -> Details:
        path = self._table(table_id)
        changed = _iso_time(path)
        known = self._folder.read_object("tables", f"{table_id}.json") or {}
        return {
            "uri": f"tables/{table_id}.csv",
            "name": table_id.rpartition(".")[2],
            "primaryKey": [],
            "created": changed,
            "lastChangeDate": changed,
            "lastImportDate": changed,
            "metadata": [],
            "columnMetadata": {},
            **known,
            "id": table_id,
            "columns": read_columns(path),
        }

    def export_table(self, query: TableQuery, target: BinaryIO) -> None:
        copy_rows(self._table(query.table_id), query, target)

    def _table(self, table_id: str) -> Path:
        path = self._folder.find_file("tables", f"{table_id}.csv")
        if path is None:
            raise StorageRefused(f"Table '{table_id}' not found.")
        return path

    # Files --------------------------------------------------------------------------

    def find_files(self, query: FileQuery) -> list[int]:
        terms = _read_terms(query.query)
        names = self._file_names()
        found = (i for i in sorted(names, reverse=True) if self._matches(names[i], query, terms))
        return [file_id for file_id, _ in zip(found, range(query.limit), strict=False)]

    def file_details(self, file_id: int) -> Details:
        name = self._file_name(file_id)
        parts = self._parts(name)
        return {
            "created": _iso_time(parts[0]) if parts else None,
            "isPublic": False,
            "isEncrypted": False,
            "maxAgeDays": None,
            "tags": [],
            "runId": None,
            **self._known(name),
            "id": file_id,
            "name": name.partition("_")[2],
            "url": "",
            "provider": "directory",
            "isSliced": self._folder.find_file("files", name) is None,
            "sizeBytes": sum(part.stat().st_size for part in parts),
        }

    def count_parts(self, details: Details) -> int:
        return len(self._parts(_name(details)))

    def download_part(self, details: Details, number: int, target: BinaryIO) -> None:
        with self._parts(_name(details))[number].open("rb") as source:
            shutil.copyfileobj(source, target)

    def tag_file(self, file_id: int, tag: str) -> None:
        name = self._file_name(file_id)
        with self._locked_files() as files:
            known = self._known(name)
            tags = known.get("tags") or []
            if tag not in tags:
                draft = files / f".{name}.{os.getpid()}"
                draft.write_text(json.dumps({**known, "tags": [*tags, tag]}, indent=2))
                draft.replace(files / f"{name}.json")

    @contextmanager
    def _locked_files(self) -> Iterator[Path]:
        """Keep two processes from losing one another's tags."""
        files = self._folder.find("files")
        if files is None:
            raise StorageUnavailable("The storage directory has no files.")
        try:
            with _locked(files):
                yield files
        except OSError:
            raise StorageUnavailable("The storage directory is not writable.") from None

    def _file_names(self) -> dict[int, str]:
        """Return the names of the files by id. What describes another one is not a file.

        Raises ``StorageRefused`` for a name that cannot be used: its file would be missing.
        """
        names = self._folder.list("files")
        described = {f"{name}.json" for name in names}
        found = {}
        for name in names:
            match = _FILE.fullmatch(name)
            if match and name not in described:
                _require_usable(name)
                if self._folder.find("files", name):
                    found[int(match[1])] = name
        return found

    def _file_name(self, file_id: int) -> str:
        name = self._file_names().get(file_id)
        if name is None:
            raise StorageRefused(f"File '{file_id}' not found.")
        return name

    def _parts(self, name: str) -> list[Path]:
        """Return a file as one part; a directory's parts are its files, in order of names."""
        whole = self._folder.find_file("files", name)
        if whole is not None:
            return [whole]
        inside = self._folder.list("files", name)
        for part in inside:
            _require_usable(part)
        found = (self._folder.find_file("files", name, part) for part in inside)
        return [part for part in found if part is not None]

    def _known(self, name: str) -> Details:
        return self._folder.read_object("files", f"{name}.json") or {}

    def _matches(self, name: str, query: FileQuery, terms: list[tuple[str, str]]) -> bool:
        known = self._known(name)
        tags, run_id = known.get("tags") or [], str(known.get("runId") or "")
        if query.tags and not set(query.tags) & set(tags):
            return False
        # A run includes those that it started.
        if query.run_id and not f"{run_id}.".startswith(f"{query.run_id}."):
            return False
        values = {"name": [name.partition("_")[2]], "tags": tags}
        return all(
            any(fnmatchcase(str(value).lower(), pattern) for value in values[field])
            for field, pattern in terms
        )

    # Configurations -----------------------------------------------------------------

    def configuration_row(self, config_id: str, version: str, row_id: str) -> Details:
        found = self._folder.read_object("configurations", config_id, f"{version}.json")
        if found is None:
            raise StorageRefused(f"Version '{version}' of configuration '{config_id}' not found.")
        return find_row(found, row_id)


def _require_usable(name: str) -> None:
    problem = name_problem(name)
    if problem:
        shown = name.encode(errors="surrogateescape").decode(errors="replace")
        raise StorageRefused(f"The name '{shown}' in the storage directory is refused: {problem}.")


def _read_terms(text: str) -> list[tuple[str, str]]:
    """Return the fields and patterns of a query such as ``name:*.csv tags:"last week"``."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise StorageRefused(f"The query '{text}' has an open quote.") from None
    terms = []
    for word in words:
        if word == "AND":
            continue
        field, colon, pattern = word.partition(":")
        if not colon:
            field, pattern = "name", word
        if field not in ("name", "tags") or word in ("OR", "NOT") or set("()[]") & set(word):
            raise StorageRefused(f"A storage directory cannot be asked for '{word}'.")
        terms.append((field, pattern.lower()))
    return terms


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _name(details: Details) -> str:
    return f"{details['id']}_{details['name']}"


def _iso_time(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
