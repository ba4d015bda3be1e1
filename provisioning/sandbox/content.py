"""Writes scripts, tables and files into a sandbox (contract 8.3).

Every table and file lies on the worker's disk only until it is in the sandbox, in a file
without a name, so that nothing stays behind when the worker dies.
"""

import errno
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from provisioning.backends.base import ContentRefused, Files, ReportProgress
from provisioning.sandbox.generated_files import file_manifest, script_files, table_manifest
from provisioning.sandbox.names import MANIFEST, manifest_name, safe_name
from provisioning.sandbox.request import FileInput, LoadPlan, TableInput
from provisioning.storage.base import FileQuery, Storage, StorageRefused

STEP = "content"
#: The part of the whole job that loading is.
FIRST_PERCENT, LAST_PERCENT = 10, 70
TABLES, FILES, USER = "/data/in/tables", "/data/in/files", "/data/in/user"
#: Parents come first.
DIRECTORIES = ("/data/in", TABLES, FILES, USER, "/data/out", "/data/out/tables", "/data/out/files")


class WorkerDiskFull(Exception):
    """The worker cannot keep a table or a file until it is in the sandbox."""


class SandboxContent:
    """What a plan puts into a sandbox.

    ``run_id`` is the job's. ``scratch`` is a directory of the worker with room for the
    largest table or file, which may have ``limit`` bytes, unpacked; None is any number. ``check``
    raises when the job is to stop; it is called while data comes in. Besides
    ``ContentRefused``, loading raises ``StorageUnavailable`` and ``WorkerDiskFull``, which are no
    fault of the caller.
    """

    def __init__(
        self,
        plan: LoadPlan,
        storage: Storage | None,
        run_id: str,
        scratch: Path,
        check: Callable[[], None],
        limit: int | None = None,
    ) -> None:
        self.packages = plan.packages
        self._plan = plan
        self._storage = storage
        self._run_id = run_id
        self._scratch = scratch
        self._check = check
        self._limit = limit
        self._loader: _Loader | None = None

    def load(self, files: Files, report: ReportProgress) -> None:
        """Write everything."""
        for path in DIRECTORIES:
            files.make_directory(path)
        for path, content in script_files(self._plan.type, self._plan.script).items():
            files.put(path, io.BytesIO(content), len(content))
        if not self._plan.tables and not self._plan.files:
            return
        if self._storage is None:
            raise ContentRefused("Tables and files cannot be loaded: the service has no Storage.")
        self._loader = _Loader(
            self._storage, files, report, self._scratch, self._check, self._limit
        )
        try:
            self._loader.load(self._plan, parent_run_id(self._run_id))
        except OSError as problem:
            if problem.errno in (errno.ENOSPC, errno.EDQUOT):
                raise WorkerDiskFull(f"The disk of {self._scratch} is full.") from problem
            raise

    def mark_processed(self) -> None:
        """Tag the loaded files as processed, once the sandbox is there to process them.

        A creation that dies before that finds them again when it is repeated.
        """
        if self._loader is not None:
            self._loader.mark_processed()


def parent_run_id(run_id: str) -> str:
    """Return the run id that the caller sent, which the job's adds a ticket to (contract 9.2).

    Without one, the job's own is returned: it has no files, while an empty one would let all
    of them pass.
    """
    parent, dot, _ = run_id.rpartition(".")
    return parent if dot else run_id


class _Watched(io.BufferedIOBase):
    """A file that looks, at each write, whether its writer is to stop.

    A write raises ``StorageRefused`` when the file, with the ``before`` bytes of its other parts,
    has more than ``limit``: a few that were packed well may be thousands of times as many.
    """

    def __init__(
        self, file: BinaryIO, check: Callable[[], None], limit: int | None, before: int
    ) -> None:
        self._file = file
        self._check = check
        self._limit = limit
        self._before = before

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._check()
        if self._limit is not None and self._before + self._file.tell() + len(data) > self._limit:
            raise StorageRefused(f"It is larger than {format_size(self._limit)}.")
        return self._file.write(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._file.truncate(size)


class _Loader:
    """One loading of tables and files."""

    def __init__(
        self,
        storage: Storage,
        files: Files,
        report: ReportProgress,
        scratch: Path,
        check: Callable[[], None],
        limit: int | None,
    ) -> None:
        self._storage = storage
        self._files = files
        self._report = report
        self._scratch = scratch
        self._check = check
        self._limit = limit
        self._done = self._total = 0
        #: The inputs with the files that were found for each.
        self._found: list[tuple[FileInput, list[int]]] = []

    def load(self, plan: LoadPlan, parent: str) -> None:
        """Look for all files first: a missing one is then found before the long downloads."""
        found = [(wanted, self._find(wanted.file_query(parent))) for wanted in plan.files]
        self._found = found
        users = {tag: self._newest(tag) for tag in plan.user_tags}
        # A file that several inputs found is loaded once.
        file_ids = dict.fromkeys([id_ for _, ids in found for id_ in ids] + [*users.values()])
        self._total = len(plan.tables) + len(file_ids)
        self._report(STEP, FIRST_PERCENT, f"Loading {self._total} tables and files")
        for table in plan.tables:
            self._load_table(table)
        for file_id in file_ids:
            self._load_file(file_id, [tag for tag, id_ in users.items() if id_ == file_id])

    def mark_processed(self) -> None:
        for wanted, ids in self._found:
            self._mark(wanted, ids)

    def _advance(self, what: str, size: int) -> None:
        self._done += 1
        percent = FIRST_PERCENT + (LAST_PERCENT - FIRST_PERCENT) * self._done // self._total
        text = f"Loaded {what} ({self._done} of {self._total}, {format_size(size)})"
        self._report(STEP, percent, text)

    def _put(self, path: str, content: bytes) -> None:
        self._files.put(path, io.BytesIO(content), len(content))

    def _fetch(self, write: Callable[[BinaryIO], None], paths: list[str], before: int = 0) -> int:
        """Put what ``write`` writes to each of the paths; return its bytes.

        ``before`` is how many bytes other parts of the same file have had.
        """
        with tempfile.TemporaryFile(dir=self._scratch) as content:
            write(cast(BinaryIO, _Watched(content, self._check, self._limit, before)))
            size = content.seek(0, io.SEEK_END)
            for path in paths:
                content.seek(0)
                self._files.put(path, content, size)
        return size

    def _load_table(self, table: TableInput) -> None:
        with _naming(f"Cannot load table {table.source}"):
            details = self._storage.table_details(table.source)
            size = self._fetch(
                partial(self._storage.export_table, table.query()),
                [f"{TABLES}/{table.file_name}"],
            )
        manifest = manifest_name(table.file_name)
        if manifest:
            self._put(f"{TABLES}/{manifest}", table_manifest(details, table.columns))
        self._advance(f"table {table.source}", size)

    # Files ------------------------------------------------------------------------------

    def _find(self, query: FileQuery) -> list[int]:
        with _naming(f"Cannot find files by {_describe(query)}"):
            return self._storage.find_files(query)

    def _newest(self, tag: str) -> int:
        found = self._find(FileQuery(tags=(tag,), limit=1))
        if not found:
            raise ContentRefused(f"No files were found for tag: {tag}")
        return found[0]

    def _load_file(self, file_id: int, tags: list[str]) -> None:
        """Put a file in its place, and in those of the tags whose newest file it is."""
        with _naming(f"Cannot load file {file_id}"):
            details = self._storage.file_details(file_id)
            name = safe_name(f"{file_id}_{details.get('name') or ''}")
            paths = [f"{FILES}/{name}", *(f"{USER}/{safe_name(tag)}" for tag in tags)]
            size = 0
            for number, targets in self._parts(details, paths):
                part = partial(self._storage.download_part, details, number)
                size += self._fetch(part, targets, before=size)
        for path in paths:
            self._put(path + MANIFEST, file_manifest(file_id, details))
        self._advance(f"file {name}", size)

    def _parts(self, details: dict[str, Any], paths: list[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield each part's number and where it goes; a sliced file becomes directories."""
        if not details.get("isSliced"):
            yield 0, paths
            return
        for path in paths:
            self._files.make_directory(path)
        for number in range(self._storage.count_parts(details)):
            yield number, [f"{path}/part.{number}" for path in paths]

    def _mark(self, wanted: FileInput, file_ids: list[int]) -> None:
        for tag in wanted.processed_tags or ():
            for file_id in file_ids:
                with _naming(f"Cannot add tag '{tag}' to file {file_id}"):
                    self._storage.tag_file(file_id, tag)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Say what it was that Storage refused."""
    try:
        yield
    except StorageRefused as problem:
        raise ContentRefused(f"{what}: {problem}") from None


def _describe(query: FileQuery) -> str:
    words = [f"tag '{tag}'" for tag in query.tags]
    return ", ".join([*words, f"query '{query.query}'"] if query.query else words)


def format_size(size: int) -> str:
    """Return bytes in the unit that people would choose, such as ``1.2 MB``."""
    if size < 1000:
        return f"{size} B"
    number = float(size)
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if number < 999.95:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:.1f} TB"
