"""The messages while a sandbox is filled, and failures that are not its owner's (contract 8.3)."""

import errno
import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from provisioning.backends.base import ContentRefused
from provisioning.sandbox.content import SandboxContent, WorkerDiskFull, format_size
from provisioning.sandbox.request import FileInput, LoadPlan, TableInput
from provisioning.state.claims import Terminated
from provisioning.storage.base import StorageUnavailable, TableQuery
from tests.sandbox.stand_in import RUN_ID, DirectoryFiles, Loading, StandInStorage


def test_progress_is_told_after_each_table_and_file(storage: StandInStorage, load: Loading) -> None:
    storage.add_table("in.c-main.orders", b"x" * 1_234_567)
    storage.add_table("y")
    storage.add_file(5, "a.csv", b"one", b"two", tags=["t"])
    load(tables=(TableInput("in.c-main.orders"), TableInput("y")), files=(FileInput(tags=("t",)),))
    assert load.reports == [
        ("content", 10, "Loading 3 tables and files"),
        ("content", 30, "Loaded table in.c-main.orders (1 of 3, 1.2 MB)"),
        ("content", 50, "Loaded table y (2 of 3, 36 B)"),
        ("content", 70, "Loaded file 5_a.csv (3 of 3, 6 B)"),
    ]


@pytest.mark.parametrize(
    "size, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (10**9, "1.0 GB"),
        (2 * 10**15, "2000.0 TB"),
    ],
)
def test_sizes_are_told_in_a_unit_that_fits(size: int, text: str) -> None:
    assert format_size(size) == text


# What is no fault of the caller ---------------------------------------------------------


@pytest.mark.parametrize("call", ["table_details", "export_table", "find_files", "tag_file"])
def test_a_storage_that_is_away_is_passed_on(
    storage: StandInStorage, load: Loading, call: str
) -> None:
    storage.add_table("x")
    storage.add_file(1, "a", b"1", tags=["a"])
    failure = storage.failures[call] = StorageUnavailable("away")
    with pytest.raises(StorageUnavailable) as caught:
        load(tables=(TableInput("x"),), files=(FileInput(tags=("a",), processed_tags=("d",)),))
    assert caught.value is failure
    assert list(load.scratch.iterdir()) == []


def test_a_full_disk_is_told_to_the_operator(storage: StandInStorage, load: Loading) -> None:
    storage.add_table("x")
    storage.failures["export_table"] = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(WorkerDiskFull, match=f"^The disk of {load.scratch} is full.$"):
        load(tables=(TableInput("x"),))


def test_another_failure_of_the_disk_is_passed_on(storage: StandInStorage, load: Loading) -> None:
    storage.add_table("x")
    failure = storage.failures["export_table"] = OSError(errno.EIO, "I/O error")
    with pytest.raises(OSError) as caught:
        load(tables=(TableInput("x"),))
    assert caught.value is failure


@pytest.mark.parametrize(
    "plan", [{"tables": (TableInput("x"),)}, {"files": (FileInput(tags=("a",)),)}]
)
def test_input_without_a_storage_is_refused(tmp_path: Path, plan: dict[str, Any]) -> None:
    message = "^Tables and files cannot be loaded: the service has no Storage.$"
    with pytest.raises(ContentRefused, match=message):
        Loading(None, tmp_path)(**plan)


def test_a_large_table_is_not_held_in_memory(storage: StandInStorage, load: Loading) -> None:
    """The stand-in writes piece by piece, and the sandbox gets an open file."""

    class Pieces(StandInStorage):
        def export_table(self, query: TableQuery, target: BinaryIO) -> None:
            for _ in range(64):
                target.write(b"x" * 1_000_000)

    class Sink(DirectoryFiles):
        total = 0

        def put(self, path: str, source: BinaryIO, size: int) -> None:
            while piece := source.read(1_000_000):
                self.total += len(piece)

    pieces, sink = Pieces(), Sink(load.scratch.parent / "sink")
    pieces.add_table("x")
    plan = LoadPlan("rstudio", tables=(TableInput("x"),))
    tracemalloc.start()
    try:
        content = SandboxContent(plan, pieces, RUN_ID, load.scratch, load.check)
        content.load(sink, lambda *_: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sink.total > 64_000_000
    assert peak < 8_000_000


def test_a_killed_job_stops_while_data_comes_in(storage: StandInStorage, load: Loading) -> None:
    storage.add_table("x")
    load.stop = Terminated()
    with pytest.raises(Terminated):
        load(tables=(TableInput("x"),))
    assert list(load.scratch.iterdir()) == []
