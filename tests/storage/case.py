"""What the conformance suite needs to know of a storage."""

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from provisioning.configuration.secrets import Secret
from provisioning.storage.base import Storage, TableQuery
from provisioning.storage.directory import DirectoryStorage
from provisioning.storage.keboola import KeboolaStorage
from provisioning.storage.retries import Timeouts
from provisioning.storage.table_files import TIMESTAMP
from tests.support.storage_simulator import StorageSimulator, Table

RUN_ID = "206296229.206296230"
#: Nothing on this machine takes so long, except what a test makes slow.
PATIENCE = Timeouts(connect=5, idle=5, call=5, retries=20, export=20)


def no_pause(seconds: float) -> None:
    """Ask again at once."""


def export(storage: Storage, query: TableQuery) -> str:
    """Return the text that an export writes."""
    target = io.BytesIO()
    storage.export_table(query, target)
    return target.getvalue().decode()


def download(storage: Storage, file_id: int, number: int = 0) -> bytes:
    """Return the bytes of a part of a file."""
    target = io.BytesIO()
    storage.download_part(storage.file_details(file_id), number, target)
    return target.getvalue()


class Case(ABC):
    """One implementation, and how to put something into it."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def table_id(self) -> str:
        """Return the id of a table that is not there yet."""
        return f"in.c-main.table{next(self._numbers)}"

    @abstractmethod
    def storage(self) -> Storage:
        """Return the storage as a job sees it."""

    @abstractmethod
    def add_table(
        self, columns: list[str], rows: Sequence[Sequence[str]], changed: Sequence[datetime] = ()
    ) -> str:
        """Make a table and return its id; ``changed`` is one time for each row."""

    @abstractmethod
    def add_file(
        self,
        name: str,
        content: bytes | list[bytes],
        tags: Sequence[str] = (),
        run_id: str = "",
    ) -> int:
        """Make a file, a sliced one of a list, and return its id."""

    @abstractmethod
    def add_configuration(self, config_id: str, version: str, rows: list[dict[str, Any]]) -> None:
        """Make a version of a transformation's configuration."""


class KeboolaCase(Case):
    """The Storage API, with files at one cloud and exports in so many slices."""

    def __init__(
        self, simulator: StorageSimulator, token: str, provider: str = "aws", slices: int = 0
    ) -> None:
        super().__init__()
        self.simulator = simulator
        self.token = token
        self.provider = provider
        self._slices = slices

    def storage(self) -> KeboolaStorage:
        return KeboolaStorage(self.simulator.url, Secret(self.token), RUN_ID, PATIENCE, no_pause)

    def add_table(
        self, columns: list[str], rows: Sequence[Sequence[str]], changed: Sequence[datetime] = ()
    ) -> str:
        table = Table(
            self.table_id(),
            columns,
            list(rows),
            list(changed),
            slices=self._slices,
            provider=self.provider,
            polls=1,
        )
        return self.simulator.add_table(table).id

    def add_file(
        self,
        name: str,
        content: bytes | list[bytes],
        tags: Sequence[str] = (),
        run_id: str = "",
    ) -> int:
        return self.simulator.add_file(
            name, content, tags=list(tags), run_id=run_id, provider=self.provider
        )

    def add_configuration(self, config_id: str, version: str, rows: list[dict[str, Any]]) -> None:
        self.simulator.add_configuration(config_id, version, rows)


class DirectoryCase(Case):
    """A local directory."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.tables, self.files = path / "tables", path / "files"
        self.tables.mkdir()
        self.files.mkdir()

    def storage(self) -> DirectoryStorage:
        return DirectoryStorage(self.path)

    def add_table(
        self, columns: list[str], rows: Sequence[Sequence[str]], changed: Sequence[datetime] = ()
    ) -> str:
        table_id = self.table_id()
        lines = [list(columns), *map(list, rows)]
        if changed:
            lines[0].append(TIMESTAMP)
            for line, moment in zip(lines[1:], changed, strict=True):
                line.append(moment.isoformat())
        text = "".join(",".join(map(_quoted, line)) + "\n" for line in lines)
        (self.tables / f"{table_id}.csv").write_bytes(text.encode())
        return table_id

    def add_file(
        self,
        name: str,
        content: bytes | list[bytes],
        tags: Sequence[str] = (),
        run_id: str = "",
    ) -> int:
        file_id = next(self._numbers)
        place = self.files / f"{file_id}_{name}"
        if isinstance(content, list):
            place.mkdir()
            for number, part in enumerate(content):
                (place / f"part.{number}").write_bytes(part)
        else:
            place.write_bytes(content)
        known = {"tags": list(tags), "runId": run_id or None}
        (self.files / f"{place.name}.json").write_text(json.dumps(known))
        return file_id

    def add_configuration(self, config_id: str, version: str, rows: list[dict[str, Any]]) -> None:
        place = self.path / "configurations" / config_id
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{version}.json").write_text(json.dumps({"rows": rows}))


def _quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'
