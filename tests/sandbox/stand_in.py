"""A Storage in memory and a sandbox that is a directory: stand-ins, no real ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from provisioning.sandbox.content import SandboxContent
from provisioning.sandbox.request import LoadPlan
from provisioning.storage.base import FileQuery, StorageRefused, TableQuery

Key = TypeVar("Key")
Thing = TypeVar("Thing")
CSV = b'"id","name"\n"1","O""Hara, Scarlett"\n'
RUN_ID = "100.200.300"
EMPTY = {
    "in": None,
    "in/tables": None,
    "in/files": None,
    "in/user": None,
    "out": None,
    "out/tables": None,
    "out/files": None,
}


def table_details(table_id: str, **changes: Any) -> dict[str, Any]:
    """Return a table as the Storage API words it."""
    return {
        "id": table_id,
        "uri": f"https://storage.example.com/v2/storage/tables/{table_id}",
        "name": table_id.rpartition(".")[2],
        "primaryKey": ["id"],
        "created": "2019-01-10T10:00:00+0100",
        "lastChangeDate": "2019-01-10T10:00:01+0100",
        "lastImportDate": "2019-01-10T10:00:02+0100",
        "columns": ["id", "name"],
        "metadata": [{"id": "1", "key": "k", "value": "v", "provider": "user"}],
        "columnMetadata": {"name": [{"id": "2", "key": "c", "value": "w", "provider": "user"}]},
        "isAlias": False,
        **changes,
    }


def file_details(file_id: int, name: str, **changes: Any) -> dict[str, Any]:
    """Return a file as the Storage API words it."""
    return {
        "id": file_id,
        "name": name,
        "created": "2019-01-10T10:00:00+0100",
        "url": "https://files.example.com/secret",
        "isPublic": False,
        "isEncrypted": True,
        "isSliced": False,
        "tags": [],
        "maxAgeDays": 15,
        "sizeBytes": 7,
        "credentials": {"SecretAccessKey": "never written"},
        **changes,
    }


#: Bytes of the largest table or file.
LIMIT = 5_000_000


class StandInStorage:
    """Answers what a test put into it, and remembers what it was asked."""

    def __init__(self) -> None:
        self.tables: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.files: dict[int, tuple[dict[str, Any], list[bytes]]] = {}
        #: The run id that a file was made under.
        self.run_ids: dict[int, str] = {}
        self.rows: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.table_queries: list[TableQuery] = []
        self.file_queries: list[FileQuery] = []
        self.calls: list[tuple[Any, ...]] = []
        #: What a call raises, by its name.
        self.failures: dict[str, Exception] = {}

    def add_table(self, table_id: str, content: bytes = CSV, **changes: Any) -> None:
        self.tables[table_id] = table_details(table_id, **changes), content

    def add_file(self, file_id: int, name: str, *parts: bytes, **changes: Any) -> None:
        sliced = {"isSliced": True} if len(parts) > 1 else {}
        self.files[file_id] = file_details(file_id, name, **{**sliced, **changes}), list(parts)

    def table_details(self, table_id: str) -> dict[str, Any]:
        self._call("table_details", table_id)
        details, _ = self._find(self.tables, table_id, f"The table {table_id} was not found")
        return details

    def export_table(self, query: TableQuery, target: BinaryIO) -> None:
        self._call("export_table", query.table_id)
        self.table_queries.append(query)
        target.write(self.tables[query.table_id][1])

    def find_files(self, query: FileQuery) -> list[int]:
        self._call("find_files")
        self.file_queries.append(query)
        return sorted(filter(self._condition(query), self.files), reverse=True)[: query.limit]

    def _condition(self, query: FileQuery) -> Callable[[int], bool]:
        def matches(file_id: int) -> bool:
            details = self.files[file_id][0]
            return (
                (not query.tags or bool(set(query.tags) & set(details["tags"])))
                and query.query in (details["name"] or "")
                and (not query.run_id or self.run_ids.get(file_id) == query.run_id)
            )

        return matches

    def file_details(self, file_id: int) -> dict[str, Any]:
        self._call("file_details", file_id)
        return self.files[file_id][0]

    def count_parts(self, details: dict[str, Any]) -> int:
        return len(self.files[details["id"]][1])

    def download_part(self, details: dict[str, Any], number: int, target: BinaryIO) -> None:
        self._call("download_part", details["id"], number)
        target.write(self.files[details["id"]][1][number])

    def tag_file(self, file_id: int, tag: str) -> None:
        self._call("tag_file", file_id, tag)

    def configuration_row(self, config_id: str, version: str, row_id: str) -> dict[str, Any]:
        self._call("configuration_row", config_id, version, row_id)
        return self._find(self.rows, (config_id, version, row_id), "Configuration Row not found")

    def _call(self, name: str, *details: Any) -> None:
        self.calls.append((name, *details))
        if name in self.failures:
            raise self.failures[name]

    @staticmethod
    def _find(things: dict[Key, Thing], key: Key, message: str) -> Thing:
        if key not in things:
            raise StorageRefused(message)
        return things[key]


class DirectoryFiles:
    """Writes below a directory, and takes nothing that a container would not take."""

    def __init__(self, root: Path, scratch: Path | None = None) -> None:
        self._root = root
        self._scratch = scratch
        (root / "data").mkdir(parents=True)

    def make_directory(self, path: str) -> None:
        self._place(path).mkdir()

    def put(self, path: str, source: BinaryIO, size: int) -> None:
        if self._scratch is not None:
            assert list(self._scratch.iterdir()) == []
        content = source.read()
        assert len(content) == size
        with self._place(path).open("xb") as target:
            target.write(content)

    def _place(self, path: str) -> Path:
        assert path.startswith("/data/")
        assert ".." not in path.split("/")
        return self._root / path.removeprefix("/")

    def tree(self) -> dict[str, bytes | None]:
        """Return the content of each file, None for directories, by path below /data."""
        data = self._root / "data"
        return {
            str(path.relative_to(data)): path.read_bytes() if path.is_file() else None
            for path in data.rglob("*")
        }


class Loading:
    """Loads plans into a directory that stands in for a sandbox."""

    def __init__(self, storage: StandInStorage | None, path: Path) -> None:
        self.storage = storage
        self.reports: list[tuple[str, int, str]] = []
        self.stop: Exception | None = None
        self.scratch = path / "scratch"
        self.scratch.mkdir()
        self.files = DirectoryFiles(path / "sandbox", self.scratch)

    def check(self) -> None:
        """Raise what a test has set, as a killed job does."""
        if self.stop is not None:
            raise self.stop

    @property
    def calls(self) -> list[Any]:
        """What the storage was asked so far."""
        return self.storage.calls if self.storage else []

    def __call__(self, **plan: Any) -> dict[str, bytes | None]:
        """Return what is below /data besides the directories and files that are always there."""
        content = SandboxContent(
            LoadPlan(**{"type": "rstudio", **plan}),
            self.storage,
            RUN_ID,
            self.scratch,
            self.check,
            LIMIT,
        )
        content.load(self.files, lambda *report: self.reports.append(report))
        assert not [call for call in self.calls if call[0] == "tag_file"]
        content.mark_processed()
        tree = self.files.tree()
        assert EMPTY.items() <= tree.items()
        assert list(self.scratch.iterdir()) == []
        return {path: tree[path] for path in tree.keys() - EMPTY.keys() - {"main.R"}}
