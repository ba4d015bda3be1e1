"""What a caller asked of a sandbox, as it is kept with the job (contract 8.1 and 8.2)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from provisioning import errors
from provisioning.storage.base import FileQuery, TableQuery

BACKEND = "docker"
#: Files that one input loads when it does not say how many (contract 8.1).
FILE_LIMIT = 10


@dataclass(frozen=True)
class _Written:
    """An object of the request. Every field is as the caller wrote it; None is absent."""

    def to_json(self) -> dict[str, Any]:
        written = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in written.items()
            if value is not None
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in data.items()
            }
        )


@dataclass(frozen=True)
class TableInput(_Written):
    """A table to load, and how much of it."""

    source: str
    destination: str | None = None
    columns: tuple[str, ...] | None = None
    days: int | None = None
    changed_since: str | None = None
    where_column: str | None = None
    where_values: tuple[str, ...] | None = None
    where_operator: str | None = None
    limit: int | None = None

    @property
    def file_name(self) -> str:
        return self.source if self.destination is None else self.destination

    def query(self) -> TableQuery:
        """Return what to ask of Storage; a filter needs a column and a value."""
        query = TableQuery(
            table_id=self.source,
            columns=self.columns or None,
            changed_since=f"-{self.days} days" if self.days else self.changed_since or None,
            limit=self.limit,
        )
        if not self.where_column or not self.where_values:
            return query
        return replace(
            query,
            where_column=self.where_column,
            where_values=self.where_values,
            where_operator=self.where_operator or "eq",
        )


@dataclass(frozen=True)
class FileInput(_Written):
    """Files to load, and how to mark them afterwards."""

    tags: tuple[str, ...] | None = None
    query: str | None = None
    processed_tags: tuple[str, ...] | None = None
    filter_by_run_id: bool | None = None
    limit: int | None = None

    def file_query(self, parent_run_id: str) -> FileQuery:
        """Return what to ask of Storage."""
        return FileQuery(
            tags=self.tags or (),
            query=self.query or "",
            run_id=parent_run_id if self.filter_by_run_id else "",
            limit=self.limit or FILE_LIMIT,
        )


@dataclass(frozen=True)
class SandboxRequest:
    """A plain sandbox (contract 8.1)."""

    type: str
    script: str = field(default="", repr=False)
    tables: tuple[TableInput, ...] | None = None
    files: tuple[FileInput, ...] | None = None
    #: Seconds that a new sandbox is to live; None is its full lifetime.
    ttl: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the body as the caller sent it, without what counts as absent."""
        parts = {"tables": self.tables, "files": self.files}
        wanted = {
            name: [item.to_json() for item in items]
            for name, items in parts.items()
            if items is not None
        }
        return {
            "type": self.type,
            **({"script": self.script} if self.script else {}),
            **({"input": wanted} if wanted else {}),
            **({"ttl": self.ttl} if self.ttl else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the request that a schema loaded or ``to_json`` returned."""
        wanted = data.get("input", {})
        tables, files = wanted.get("tables"), wanted.get("files")
        return cls(
            type=data["type"],
            script=data.get("script", ""),
            tables=None if tables is None else tuple(map(TableInput.from_json, tables)),
            files=None if files is None else tuple(map(FileInput.from_json, files)),
            ttl=data.get("ttl"),
        )


@dataclass(frozen=True)
class TransformationRequest:
    """A sandbox with what a transformation works on (contract 8.2)."""

    config_id: str
    config_version: str
    row_id: str
    #: Seconds that a new sandbox is to live; None is its full lifetime.
    ttl: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the body as the caller sent it."""
        return {
            "transformation": {
                "config_id": self.config_id,
                "config_version": self.config_version,
                "row_id": self.row_id,
            },
            **({"ttl": self.ttl} if self.ttl else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the request that a schema loaded or ``to_json`` returned."""
        return cls(**data["transformation"], ttl=data.get("ttl"))


def read_request(data: Mapping[str, Any]) -> SandboxRequest | TransformationRequest:
    """Return the request, of either kind, that was kept with a job."""
    if "transformation" in data:
        return TransformationRequest.from_json(data)
    return SandboxRequest.from_json(data)


def job_params(request: SandboxRequest | TransformationRequest) -> dict[str, Any]:
    """Return the request as its job's record shows it to the project (contract 9.1.3)."""
    shown = {name: value for name, value in request.to_json().items() if name != "script"}
    if isinstance(request, SandboxRequest):
        shown.setdefault("input", [])
    return {"backend": BACKEND, **shown}


def require_storable(request: SandboxRequest | TransformationRequest, limit: int) -> None:
    """Refuse a request whose record in lists of jobs would be longer than ``limit`` bytes.

    Jobs are kept for months and listed by the hundred, so there is a bound far below that of a
    body. Raises ``ParameterInvalid``, which names the longest part.
    """
    params = job_params(request)
    if _bytes(params) <= limit:
        return
    path, part = "", params
    while isinstance(part, dict | list):
        named = part.items() if isinstance(part, dict) else enumerate(part)
        longest, value = max(named, key=lambda item: _bytes(item[1]))
        if path and _bytes(value) <= limit // 2:
            break
        path += f"[{longest}]" if isinstance(part, list) else f".{longest}"
        part = value
    raise errors.ParameterInvalid(
        path.removeprefix("."),
        f"the parameters are too long: {limit} bytes in all are allowed, without the script",
    )


def _bytes(value: Any) -> int:
    return len(json.dumps(value))


@dataclass(frozen=True)
class LoadPlan:
    """What goes into a sandbox, whichever way it was asked for."""

    type: str
    script: str = field(default="", repr=False)
    packages: tuple[str, ...] = ()
    tables: tuple[TableInput, ...] = ()
    files: tuple[FileInput, ...] = ()
    #: Each gets its newest file under a name of its own (contract 8.3).
    user_tags: tuple[str, ...] = ()
