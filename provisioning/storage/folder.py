"""A folder that names from outside never lead out of."""

import json
from pathlib import Path
from typing import Any

from provisioning.storage.base import StorageUnavailable

#: Bytes of a name; file systems take 255, and an ending is added.
LONGEST_NAME = 240


class Folder:
    """Finds what is inside of a directory; symbolic links count by where they lead."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, *names: str) -> Path | None:
        """Return the real path of a thing inside, each name being one step; else None."""
        if any(map(name_problem, names)):
            return None
        try:
            root = self._path.resolve(strict=True)
        except OSError:
            raise StorageUnavailable("The storage directory is not there.") from None
        try:
            found = root.joinpath(*names).resolve(strict=True)
        except (OSError, RuntimeError):
            # It is missing, or a loop of links.
            return None
        return found if found.is_relative_to(root) else None

    def find_file(self, *names: str) -> Path | None:
        found = self.find(*names)
        return found if found is not None and found.is_file() else None

    def list(self, *names: str) -> list[str]:
        """Return the names in a directory inside, sorted; [] when it is not there."""
        found = self.find(*names)
        return sorted(path.name for path in found.iterdir()) if found and found.is_dir() else []

    def read_object(self, *names: str) -> dict[str, Any] | None:
        """Return the JSON object of a file, or None when there is no file."""
        found = self.find_file(*names)
        if found is None:
            return None
        try:
            parsed = json.loads(found.read_bytes())
        except (OSError, ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, dict):
            raise StorageUnavailable(f"{'/'.join(names)} in the storage directory is not JSON.")
        return parsed


def name_problem(name: str) -> str | None:
    """Return why a thing of that name is not found, None if it may be."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return "it is not a plain file name"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "it is not UTF-8"
    return f"it is longer than {LONGEST_NAME} bytes" if length > LONGEST_NAME else None
