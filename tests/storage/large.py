"""A job of its own that loads a table and prints by how many bytes its memory grew at most."""

import sys
from pathlib import Path

from provisioning.configuration.secrets import Secret
from provisioning.storage.base import Storage, TableQuery
from provisioning.storage.directory import DirectoryStorage
from provisioning.storage.keboola import KeboolaStorage
from provisioning.storage.retries import Timeouts


def peak_memory() -> int:
    """Return the most bytes that the process ever held, without its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def load(source: str, token: str, table: str, target: Path) -> int:
    storage: Storage = DirectoryStorage(Path(source))
    if source.startswith("http"):
        storage = KeboolaStorage(source, Secret(token), "1.2", Timeouts())
    # What a first use loads counts as no growth.
    with target.open("w+b") as file:
        storage.export_table(TableQuery("small"), file)
    before = peak_memory()
    with target.open("w+b") as file:
        storage.export_table(TableQuery(table), file)
    return peak_memory() - before


if __name__ == "__main__":
    print(load(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])))
