"""What is written about a table or a file beside it (contract 8.3)."""

import json
from typing import Any


def table_manifest(details: dict[str, Any], columns: tuple[str, ...] | None) -> bytes:
    """Return a table's manifest; it has the columns that were loaded, None is all."""
    loaded = list(columns or details.get("columns") or ())
    # PHP writes an empty object as an array.
    about_columns = details.get("columnMetadata") or {}
    return _encode(
        {
            "id": details.get("id"),
            "uri": details.get("uri"),
            "name": details.get("name"),
            "primary_key": details.get("primaryKey") or [],
            "created": details.get("created"),
            "last_change_date": details.get("lastChangeDate"),
            "last_import_date": details.get("lastImportDate"),
            "columns": loaded,
            "metadata": details.get("metadata") or [],
            "column_metadata": {name: about_columns.get(name, []) for name in loaded},
        }
    )


def file_manifest(file_id: int, details: dict[str, Any]) -> bytes:
    """Return a file's manifest."""
    size = str(details.get("sizeBytes"))
    return _encode(
        {
            "id": file_id,
            "name": details.get("name"),
            "created": details.get("created"),
            "is_public": bool(details.get("isPublic")),
            "is_encrypted": bool(details.get("isEncrypted")),
            "is_sliced": bool(details.get("isSliced")),
            "tags": details.get("tags") or [],
            "max_age_days": details.get("maxAgeDays"),
            "size_bytes": int(size) if size.isdecimal() else None,
        }
    )


def _encode(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, indent=4).encode()


def script_files(type_: str, script: str) -> dict[str, bytes]:
    """Return the content of each file by its path."""
    if type_ == "rstudio":
        return {"/data/main.R": script.encode()}
    return {"/data/main.py": script.encode(), "/data/notebook.ipynb": _notebook(script)}


def _notebook(script: str) -> bytes:
    """Return a notebook of one cell; nbformat 4.4 is the newest that needs no ids of cells."""
    cell: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        # Windows' ends of lines would become parts of what a magic command is given.
        "source": script.replace("\r\n", "\n"),
    }
    notebook = {
        "cells": [cell],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 4,
    }
    return json.dumps(notebook, indent=1).encode()
