"""Tables, files and configurations of a project in the Keboola Storage API."""

import csv
import io
import json
import time
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, TypeVar

from provisioning.configuration.backoff import Backoff
from provisioning.configuration.secrets import Secret
from provisioning.storage.api import (
    LARGEST_ANSWER,
    StorageApi,
    error_message,
    need,
    need_id,
    open_session,
    resource,
)
from provisioning.storage.base import (
    FileQuery,
    StorageRefused,
    StorageUnavailable,
    TableQuery,
    find_row,
)
from provisioning.storage.clouds import slice_address
from provisioning.storage.retries import Pause, Timeouts
from provisioning.storage.transfer import AccessRefused, Address, Transfer

#: Files asked for at once.
PAGE = 100
POLLING = Backoff(0.2, 10.0, 1.5)

Result = TypeVar("Result")
Details = dict[str, Any]


class KeboolaStorage:
    """The storage as one token sees it; it remembers what it learns, so it is for one job."""

    def __init__(
        self,
        url: str,
        token: Secret,
        run_id: str,
        timeouts: Timeouts,
        pause: Pause = time.sleep,
    ) -> None:
        session = open_session()
        self._api = StorageApi(session, url, token, run_id, timeouts, pause)
        self._transfer = Transfer(session, timeouts, pause)
        self._timeouts = timeouts
        self._pause = pause
        #: The parts of sliced files, and details with access that had run out, by file id.
        self._slices: dict[int, tuple[str, ...]] = {}
        self._renewed: dict[int, Details] = {}

    # Tables -------------------------------------------------------------------------

    def table_details(self, table_id: str) -> Details:
        return self._api.get_object(resource("tables", table_id))

    def export_table(self, query: TableQuery, target: BinaryIO) -> None:
        """Slices have no header, a file in one piece has one. Both may be compressed."""
        details = self.file_details(self._export(query))
        if details.get("isSliced"):
            columns = query.columns or need(self.table_details(query.table_id), "columns")
            target.write(_header(columns))
        for number in range(self.count_parts(details)):
            self._download(details, number, target, unpack=True)

    def _export(self, query: TableQuery) -> int:
        """Have the rows written to a file inside the storage and return the file's id."""
        form = _export_form(query)
        job = self._api.post(resource("tables", query.table_id, "export-async"), form)
        done = self._finish(resource("jobs", str(need(job, "id"))))
        return need_id(done, "results", "file", "id")

    def _finish(self, job: str) -> Details:
        """Wait for a job of the storage's own and return its record."""
        end = time.monotonic() + self._timeouts.export
        for wait in POLLING.pauses():
            record = self._api.get_object(job)
            status = need(record, "status")
            if status == "success":
                return record
            if status == "error":
                raise self._api.refusal(error_message(record), "The export failed.")
            if time.monotonic() + wait > end:
                break
            self._pause(wait)
        raise StorageUnavailable("The export of a table did not end in time.")

    # Files --------------------------------------------------------------------------

    def find_files(self, query: FileQuery) -> list[int]:
        conditions = [("tags[]", tag) for tag in query.tags]
        conditions += [("q", query.query)] if query.query else []
        conditions += [("runId", query.run_id)] if query.run_id else []
        # Keys of a dictionary: a file made meanwhile moves others onto the next page.
        found: dict[int, None] = {}
        for offset in range(0, query.limit, PAGE):
            size = min(PAGE, query.limit - offset)
            window = [("limit", str(size)), ("offset", str(offset))]
            page = self._api.get_list("files", conditions + window)
            found |= {need_id(file, "id"): None for file in page}
            if len(page) < size:
                break
        return list(found)

    def file_details(self, file_id: int) -> Details:
        return self._api.get_object(resource("files", str(file_id)), [("federationToken", "1")])

    def count_parts(self, details: Details) -> int:
        return len(self._manifest(details)) if details.get("isSliced") else 1

    def download_part(self, details: Details, number: int, target: BinaryIO) -> None:
        self._download(details, number, target, unpack=False)

    def tag_file(self, file_id: int, tag: str) -> None:
        self._api.send(resource("files", str(file_id), "tags"), [("tag", tag)])

    def _download(self, details: Details, number: int, target: BinaryIO, *, unpack: bool) -> None:
        entry = self._manifest(details)[number] if details.get("isSliced") else None

        def use(current: Details) -> None:
            self._transfer.download(
                lambda: _address(current, entry), _name(current), target, unpack=unpack
            )

        self._with_access(details, use)

    def _manifest(self, details: Details) -> tuple[str, ...]:
        """Return where the slices of a file are, in their order."""
        file_id = need_id(details, "id")
        if file_id not in self._slices:
            body = self._with_access(
                details,
                lambda current: self._transfer.read(
                    lambda: _address(current, None), _name(current), LARGEST_ANSWER
                ),
            )
            self._slices[file_id] = _read_manifest(body, _name(details))
        return self._slices[file_id]

    def _with_access(self, details: Details, use: Callable[[Details], Result]) -> Result:
        """Use the details of a file, once more with fresh ones if their access ran out.

        Google's tokens last an hour, which a file of many slices may outlast.
        """
        file_id = need_id(details, "id")
        try:
            return use(self._renewed.get(file_id, details))
        except AccessRefused:
            self._renewed[file_id] = self.file_details(file_id)
        try:
            return use(self._renewed[file_id])
        except AccessRefused:
            raise StorageRefused(f"{_name(details)} may not be read.") from None

    # Configurations -----------------------------------------------------------------

    def configuration_row(self, config_id: str, version: str, row_id: str) -> Details:
        place = resource("components", "transformation", "configs", config_id, "versions", version)
        return find_row(self._api.get_object(place), row_id)


def _export_form(query: TableQuery) -> list[tuple[str, str]]:
    form = [("format", "rfc"), ("gzip", "1")]
    if query.columns:
        form.append(("columns", ",".join(query.columns)))
    if query.limit is not None:
        form.append(("limit", str(query.limit)))
    if query.changed_since:
        form.append(("changedSince", query.changed_since))
    if query.where_column and query.where_values:
        form.append(("whereColumn", query.where_column))
        form.append(("whereOperator", query.where_operator))
        form += [("whereValues[]", value) for value in query.where_values]
    return form


def _header(columns: Iterable[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(columns)
    return line.getvalue().encode()


def _name(details: Details) -> str:
    return f"File {details['id']}"


def _address(details: Details, entry: str | None) -> Address:
    """Return the address of a slice, or of the file itself: its manifest if it is sliced."""
    try:
        if details["url"].startswith(("https://", "http://")):
            return Address(details["url"]) if entry is None else slice_address(details, entry)
    except (AttributeError, KeyError, TypeError, ValueError):
        # Raised below, without the cause: that may quote a part of the credentials.
        pass
    raise StorageUnavailable(f"The Storage API told too little to read file {details['id']}.")


def _read_manifest(body: bytes, name: str) -> tuple[str, ...]:
    try:
        return tuple(str(entry["url"]) for entry in json.loads(body)["entries"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise StorageRefused(f"{name} has no list of its parts.") from None
