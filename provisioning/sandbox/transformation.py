"""From a transformation's configuration to what its sandbox loads (contract 8.2)."""

from typing import Any

from provisioning import errors
from provisioning.backends.base import ContentRefused
from provisioning.sandbox.fields import load
from provisioning.sandbox.names import find_clash, safe_name
from provisioning.sandbox.request import (
    FileInput,
    LoadPlan,
    SandboxRequest,
    TableInput,
    TransformationRequest,
)
from provisioning.sandbox.schemas import StoredRow
from provisioning.storage.base import Storage, StorageRefused

_ROW = StoredRow()
#: The sandbox for each language.
TYPES = {"python": "jupyter", "r": "rstudio"}


def make_plan(request: SandboxRequest | TransformationRequest, storage: Storage | None) -> LoadPlan:
    """Return what a request wants to be loaded.

    A transformation is read from Storage, which can raise ``StorageUnavailable``. Raises
    ``ContentRefused`` when it is missing or cannot be used.
    """
    if isinstance(request, SandboxRequest):
        return LoadPlan(
            type=request.type,
            script=request.script,
            tables=request.tables or (),
            files=request.files or (),
        )
    if storage is None:
        raise ContentRefused("Transformations cannot be read: the service has no Storage.")
    try:
        row = storage.configuration_row(request.config_id, request.config_version, request.row_id)
    except StorageRefused as problem:
        raise ContentRefused(str(problem)) from None
    return read_row(row)


def read_row(configuration: dict[str, Any]) -> LoadPlan:
    """Return the plan of a row's configuration; raise ``ContentRefused``."""
    row = _check(configuration)
    tags = tuple(dict.fromkeys(row.get("tags", ())))
    _require_different_files(tags)
    return LoadPlan(
        type=TYPES[row["type"]],
        script="\n".join(row.get("queries", ())),
        packages=tuple(row.get("packages", ())),
        tables=tuple(map(TableInput.from_json, row.get("input", ()))),
        files=(FileInput(tags=tags),) if tags else (),
        user_tags=tags,
    )


def _check(configuration: dict[str, Any]) -> dict[str, Any]:
    try:
        row = load(_ROW, configuration)
    except errors.ProvisioningError as problem:
        raise ContentRefused(f"The transformation cannot be used. {problem.message}") from None
    if row["backend"] != "docker":
        raise ContentRefused(
            f"Transformations of backend '{row['backend']}' have no sandbox. "
            "Allowed backends are 'docker'."
        )
    if row["type"] not in TYPES:
        raise ContentRefused(
            f"Transformations of type '{row['type']}' have no sandbox. "
            f"Allowed types are '{','.join(TYPES)}'."
        )
    return row


def _require_different_files(tags: tuple[str, ...]) -> None:
    """Tags are not made for file names, so two of them may want the same one."""
    clash = find_clash(map(safe_name, tags))
    if clash is not None:
        raise ContentRefused(
            f"Tag '{tags[clash]}' would take the place of another tag's file "
            f"{safe_name(tags[clash])} or of its manifest."
        )
