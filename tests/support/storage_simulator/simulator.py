"""The Storage API's calls, over real HTTP."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import unquote

from tests.support.storage_simulator.contents import ExportFailed, File, Table
from tests.support.storage_simulator.file_server import Content, FileServer
from tests.support.storage_simulator.replies import Reply
from tests.support.storage_simulator.server import Request, SimulatedServer
from tests.support.storage_simulator.tokens import TICKETS, VERIFY, Ticket, token_details

ROOT = "/v2/storage/"


@dataclass
class Job:
    """A job of the storage's own: its records at one look after the other."""

    course: Iterator[dict[str, Any]]
    seen: dict[str, Any] = field(default_factory=dict)


class StorageSimulator(SimulatedServer):
    """One project of the Storage API; what it tells of tokens is what a test told it to.

    An unknown token is refused. ``files`` is the file server that the project's data is on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files = FileServer()
        self.tickets: list[Ticket] = []
        self._replies: dict[str, Reply] = {}
        self._ticket_reply: Reply | None = None
        self._asked: list[str] = []
        self._number = 206_000_000
        self._ids = count(1000)
        self._tables: dict[str, Table] = {}
        self._files: dict[int, File] = {}
        self._jobs: dict[int, Job] = {}
        self._configurations: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def start(self) -> None:
        self.files.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        self.files.stop()

    # Tokens and tickets ---------------------------------------------------------------

    def answer(self, token: str, reply: Reply) -> None:
        """Answer the verifications of a token with ``reply`` from now on."""
        with self._lock:
            self._replies[token] = reply

    def accept(self, token: str, token_id: str | int, project_id: str | int, **changes: Any) -> str:
        """Make a token good and return it."""
        self.answer(token, Reply(body=token_details(token_id, project_id, **changes)))
        return token

    def answer_tickets(self, reply: Reply | None) -> None:
        """Answer ticket calls with ``reply`` in place of a number, or again with numbers."""
        with self._lock:
            self._ticket_reply = reply

    def verifications(self, token: str) -> int:
        """Return how often a token was verified."""
        with self._lock:
            return self._asked.count(token)

    def _verify(self, token: str) -> Reply:
        with self._lock:
            self._asked.append(token)
            return self._replies.get(token, Reply(401, {"error": "Invalid access token"}))

    def _give_ticket(self, token: str, run_id: str | None) -> Reply:
        with self._lock:
            if self._ticket_reply is not None:
                return self._ticket_reply
            self._number += 1
            self.tickets.append(Ticket(self._number, token, run_id))
            return Reply(201, {"id": str(self._number)})

    # What the project holds -----------------------------------------------------------

    def forget(self) -> None:
        """Empty the project and forget what was asked and what was to be disturbed."""
        for held in (self._tables, self._files, self._jobs, self._configurations):
            held.clear()
        for server in (self, self.files):
            server.requests.clear()
            server._changes.clear()

    def add_table(self, table: Table) -> Table:
        self._tables[table.id] = table
        return table

    def add_file(
        self,
        name: str,
        content: Content | list[Content] | list[bytes],
        *,
        tags: list[str] | None = None,
        run_id: str = "",
        provider: str = "aws",
    ) -> int:
        """Store a file, sliced if it is a list, and return its id."""
        file_id = next(self._ids)
        bucket, key = f"{provider}-files", f"exp-15/572/files/2016/{file_id}.{name}"
        read_key = key
        if isinstance(content, list):
            read_key = f"{key}manifest"
            parts = {f"{key}{number:04d} part+x": part for number, part in enumerate(content)}
            for part_key, part in parts.items():
                self.files.put(bucket, part_key, part)
            entries = [{"url": self.files.slice_url(bucket, part_key)} for part_key in parts]
            self.files.put(bucket, read_key, json.dumps({"entries": entries}).encode())
        else:
            self.files.put(bucket, key, content)
        parts_of = content if isinstance(content, list) else [content]
        size = sum(len(part) for part in parts_of)
        sliced = isinstance(content, list)
        self._files[file_id] = File(
            file_id, name, bucket, key, read_key, size, list(tags or []), run_id, sliced
        )
        return file_id

    def file_tags(self, file_id: int) -> list[str]:
        return self._files[file_id].tags

    def add_configuration(self, config_id: str, version: str, rows: list[dict[str, Any]]) -> None:
        """Store a version of a configuration of transformations."""
        self._configurations[config_id, version] = rows

    # Calls ----------------------------------------------------------------------------

    def respond(self, request: Request) -> Reply:
        token = request.headers.get("X-StorageApi-Token", "")
        if request.path == VERIFY:
            return self._verify(token)
        if request.path == TICKETS:
            return self._give_ticket(token, request.headers.get("X-KBC-RunId"))
        if self._replies.get(token, Reply(401)).status != 200:
            return _refuse(401, "Invalid access token")
        for method, pattern, call in self._routes():
            match = re.fullmatch(ROOT + pattern, request.target)
            if match and request.method == method:
                reply: Reply = call(request, *map(unquote, match.groups()))
                return reply
        return _refuse(404, "Route not found")

    def _routes(self) -> list[tuple[str, str, Any]]:
        return [
            ("GET", r"tables/([^/]+)", self._show_table),
            ("POST", r"tables/([^/]+)/export-async", self._export_table),
            ("GET", r"jobs/(\d+)", self._show_job),
            ("GET", r"files", self._list_files),
            ("GET", r"files/(\d+)", self._show_file),
            ("POST", r"files/(\d+)/tags", self._tag_file),
            (
                "GET",
                r"components/transformation/configs/([^/]+)/versions/([^/]+)",
                self._show_configuration,
            ),
        ]

    def _show_table(self, request: Request, table_id: str) -> Reply:
        if table_id not in self._tables:
            return _refuse(404, f'The table "{table_id}" was not found in the project "572"')
        return Reply(body=self._tables[table_id].describe(self.url))

    def _export_table(self, request: Request, table_id: str) -> Reply:
        if table_id not in self._tables:
            return _refuse(404, f'The table "{table_id}" was not found in the project "572"')
        job_id = next(self._ids)
        self._jobs[job_id] = Job(self._run_export(job_id, self._tables[table_id], request))
        return Reply(202, {"id": job_id, "status": "waiting", "operationName": "tableExport"})

    def _run_export(self, job_id: int, table: Table, request: Request) -> Iterator[dict[str, Any]]:
        """Yield the job's record as it is at one look after the other."""
        for number in range(table.polls):
            yield {"id": job_id, "status": "processing" if number else "waiting"}
        try:
            parts = table.export(request)
        except ExportFailed as problem:
            error = {"code": "storage.tables.validation", "message": str(problem)}
            yield {"id": job_id, "status": "error", "error": error, "results": None}
            return
        name = f"{table.id.replace('.', '_')}.csv"
        sliced = bool(table.slices or table.content)
        file_id = self.add_file(name, parts if sliced else parts[0], provider=table.provider)
        yield {"id": job_id, "status": "success", "results": {"file": {"id": file_id}}}

    def _show_job(self, request: Request, job_id: str) -> Reply:
        job = self._jobs[int(job_id)]
        job.seen = next(job.course, job.seen)
        return Reply(body=job.seen)

    def _list_files(self, request: Request) -> Reply:
        found = [file for file in self._files.values() if file.matches(request)]
        found.sort(key=lambda file: file.id, reverse=True)
        start, limit = int(request.one("offset") or 0), int(request.one("limit") or 100)
        return Reply(body=[file.describe() for file in found[start : start + limit]])

    def _show_file(self, request: Request, file_id: str) -> Reply:
        file = self._files.get(int(file_id))
        if file is None:
            return _refuse(404, "File not found")
        access = self.files.describe(file.bucket, file.key, file.read_key)
        if request.one("federationToken") != "1":
            access = {"url": access["url"], "provider": access["provider"]}
        return Reply(body={**file.describe(), **access})

    def _tag_file(self, request: Request, file_id: str) -> Reply:
        file = self._files.get(int(file_id))
        if file is None:
            return _refuse(404, "File not found")
        if request.one("tag") not in file.tags:
            file.tags.append(request.one("tag"))
        return Reply(201, raw=b"")

    def _show_configuration(self, request: Request, config_id: str, version: str) -> Reply:
        rows = self._configurations.get((config_id, version))
        if rows is None:
            return _refuse(404, f'Version "{version}" of configuration "{config_id}" not found')
        return Reply(body={"version": version, "configuration": {}, "rows": rows})


def _refuse(status: int, message: str) -> Reply:
    return Reply(status, {"status": "error", "error": message, "code": "storage.notFound"})


@contextmanager
def simulated_storage() -> Iterator[StorageSimulator]:
    """Run a simulator for a block."""
    simulator = StorageSimulator()
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.stop()
