"""The size of a table does not matter to memory."""

import gzip
import subprocess
import sys
from pathlib import Path

from tests.support.storage_simulator import Repeated, StorageSimulator, Table

MB = 1024 * 1024
ROW = '"' + "x" * 1020 + '"\n'
MOST_GROWTH = 50 * MB


def growth(source: str, token: str, table: str, target: Path) -> int:
    """Return the growth of the memory of a process that loads a table."""
    command = [sys.executable, "-m", "tests.storage.large", source, token, table, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_large_table_of_the_storage_api(
    simulator: StorageSimulator, token: str, tmp_path: Path
) -> None:
    block = (ROW * 1024).encode()
    plain, packed = Repeated(block, 100), Repeated(gzip.compress(block), 100)
    simulator.add_table(Table("small", ["x"], content=[plain.block, packed.block]))
    simulator.add_table(Table("t", ["x"], content=[plain, packed]))
    assert growth(simulator.url, token, "t", tmp_path / "t") < MOST_GROWTH
    assert (tmp_path / "t").stat().st_size == len('"x"\n') + 200 * len(block)


def test_a_large_table_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "small.csv").write_text(ROW)
    with (tmp_path / "tables" / "t.csv").open("w") as file:
        file.write('"x"\n')
        for _ in range(64):
            file.write(ROW * 1024)
    assert growth(str(tmp_path), "", "t", tmp_path / "out") < MOST_GROWTH
    assert (tmp_path / "out").stat().st_size == (tmp_path / "tables" / "t.csv").stat().st_size
