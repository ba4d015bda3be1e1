"""`make chaos`: the fault tests at length, one table of what they found, in a document too."""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from benchmarks.report import Neighbours, describe_machine
from devstack.procfile import TREE
from tests.faults import reliability
from tests.faults.record import PROPERTY, Record
from tests.support.deadlines import be_strict

FAULTS = {
    "F1": "kill -9 of fronts and workers at every step of create, drop, kill and extend",
    "F2": "kills at random under the load of 16 clients",
    "F3": "missing rights and taken names on the servers",
    "F4": "a client goes away and repeats its request",
    "F5": "50 equal creates at once over two fronts",
    "F6": "every message three times, late and shuffled",
    "F7": "broker killed and emptied, and away for a while",
    "F8": "state database killed under load",
    "F9": "servers restarted under load, read-only, gone",
    "F10": "servers that hang: they accept and never answer",
    "F11": "a hung Docker daemon",
    "F12": "five schedulers and sweeps; processes paused past their claims",
    "F13": "extend against expiry",
    "F14": "a drain of very many that expire at once",
    "F15": "objects removed by hand before expiry",
    "F16": "clocks of fronts, workers and beats an hour off",
    "F18": "an older copy of the state restored",
    "F21": "orphans, ghosts, and look-alikes of other installations",
    "F24": "hostile tenants: locks, open and prepared transactions, many tables, reconnecting",
    "F25": "broker (Redis, RabbitMQ) killed, and its connections cut, under load",
    "F27": "fronts and workers restarted in turn behind nginx and HAProxy",
}
#: Read by the tests as they are imported; what the caller's environment says comes first.
LONG = {
    "CHAOS_SECONDS": "240",
    "FAULT_ROUNDS": "2",
    "OUTAGE_SECONDS": "60",
    "ENGINE_OUTAGE_SECONDS": "60",
    "STATE_ROUNDS": "3",
    "BROKER_ROUNDS": "3",
    "HUNG_ROUNDS": "5",
    "CHAOS_ROUNDS": "10000",
    "DRAIN_CREDENTIALS": "10000",
}
QUICK = {"CHAOS_SECONDS": "20", "OUTAGE_SECONDS": "5", "HUNG_ROUNDS": "1"}
SCRATCH = TREE / ".provisioning-test" / "chaos"


@dataclass
class Row:
    """What the tests of one fault found together."""

    record: Record = field(default_factory=lambda: Record(rounds=0))
    tests: int = 0
    failed: int = 0

    def add(self, record: Record, *, failed: bool) -> None:
        self.record.merge(record)
        self.tests += 1
        self.failed += failed

    @property
    def verdict(self) -> str:
        if not self.tests:
            return "not covered"
        if self.failed or any(self.record.counts.values()):
            return f"{self.failed} failed" if self.failed else "not clean"
        return "clean"

    def cells(self) -> list[str]:
        """Return the columns behind the fault's name and text; see `reliability.HEAD`."""
        record = self.record
        if not self.tests:
            return [""] * (len(reliability.HEAD) - 3) + [self.verdict]
        return [
            str(record.rounds),
            str(record.kills or ""),
            *(str(count) for count in record.counts.values()),
            f"{record.slowest:.1f} s" if record.slowest else "",
            ", ".join(text.format(value) for text, value in record.figures.items()),
            self.verdict,
        ]


class Collector:
    """Gathers the records that pytest's reports carry."""

    def __init__(self) -> None:
        self.rows = {fault: Row() for fault in FAULTS}
        self.skipped: list[str] = []
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)
        if report.failed:
            self._failed.add(report.nodeid)
        properties: dict[str, Any] = dict(report.user_properties)
        if report.when == "teardown" and PROPERTY in properties:
            found = dict(properties[PROPERTY])
            row = self.rows[found.pop("row")]
            found.pop("quick", None)
            row.add(Record(**found), failed=report.nodeid in self._failed)

    def table(self) -> list[list[str]]:
        return [[fault, FAULTS[fault], *row.cells()] for fault, row in self.rows.items()]


def main() -> int:
    """Return pytest's status, 0 when everything held."""
    options = _read_options()
    lengths = {**(QUICK if options.quick else LONG)}
    lengths = {name: os.environ.setdefault(name, value) for name, value in lengths.items()}
    be_strict()
    # What was found until then is shown as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    collector, start, neighbours = Collector(), time.monotonic(), Neighbours()
    shutil.rmtree(SCRATCH, ignore_errors=True)
    SCRATCH.mkdir(parents=True)
    try:
        status = pytest.main(_arguments(options), plugins=[collector])
    finally:
        shutil.rmtree(SCRATCH)
    took = f"{time.monotonic() - start:.0f} s, while other programs used {neighbours.cores():.2f}"
    _show(collector)
    print(f"This run: {took} cores. Skipped tests: {len(collector.skipped)}.")
    if not options.only and status != pytest.ExitCode.INTERRUPTED:
        kind = "quick, " if options.quick else ""
        reliability.write(collector.table(), _environment(f"{kind}{took} cores", lengths))
        print(f"Written to {reliability.DOCUMENT}.")
    return int(status)


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some minutes, without some tests")
    parser.add_argument("--only", nargs="+", choices=FAULTS, help="some rows; writes no document")
    parser.add_argument("--runners", default="0", help="processes that test (default: this one)")
    return parser.parse_args()


def _arguments(options: argparse.Namespace) -> list[str]:
    marks = " or ".join(f'fault(row="{row}")' for row in options.only or FAULTS)
    if options.quick:
        marks = f"({marks}) and not fault(quick=False)"
    return [
        *("tests/faults", "--quiet", "-m", marks, "-p", "no:cacheprovider"),
        *("-n", options.runners, "--dist", "loadscope", "--basetemp", str(SCRATCH / "pytest")),
    ]


def _show(collector: Collector) -> None:
    table = Table(*reliability.HEAD, title="Faults, and what they left behind")
    for cells in collector.table():
        table.add_row(*cells)
    # Wide enough for a file or a pipe, too.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _environment(took: str, lengths: Mapping[str, str]) -> dict[str, str]:
    return {
        **describe_machine(),
        "servers": reliability.describe_servers(),
        "lengths": ", ".join(f"{name}={value}" for name, value in lengths.items()),
        "this run": took,
    }


if __name__ == "__main__":
    sys.exit(main())
