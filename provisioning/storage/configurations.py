"""Rows of a configuration's version (contract 8.2)."""

from typing import Any

from provisioning.storage.base import StorageRefused


def find_row(version: dict[str, Any], row_id: str) -> dict[str, Any]:
    """Return the configuration of a row."""
    rows = version.get("rows")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and str(row.get("id")) == row_id:
            configuration = row.get("configuration")
            # An empty configuration is written as an empty array.
            return configuration if isinstance(configuration, dict) else {}
    raise StorageRefused(f"Configuration Row not found: {row_id}")
