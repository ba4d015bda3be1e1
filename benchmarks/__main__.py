"""Run the measures, print their figures and write `docs/benchmarks.md`."""

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from benchmarks import (
    creating,
    drain,
    existing,
    memory,
    reading,
    removing,
    report,
    rows,
    safety,
    sandboxes,
    starting,
)
from benchmarks.bench import QUICK, Bench, Measure, Sizes
from benchmarks.figures import Figure
from devstack.mariadb import MariaDB
from devstack.procfile import TREE
from provisioning.configuration.logs import configure_logs

#: In this order: memory before the load that fills it.
MEASURES: dict[str, Measure] = {
    "P17": memory.measure,
    "P1": creating.measure_single,
    "P2": creating.measure_crowd,
    "P13": starting.measure,
    "P18": safety.measure,
    "P6": removing.measure,
    "P7": drain.measure_rate,
    "P8": drain.measure_neighbours,
    "P5": reading.measure,
    "P4": existing.measure,
    "P15": rows.measure,
    "P9": sandboxes.measure_single,
    "P10": sandboxes.measure_crowd,
    "P12": sandboxes.measure_accepting,
}
DOCUMENT = TREE / "docs" / "benchmarks.md"
SCRATCH = TREE / ".provisioning-test" / "bench"


def main() -> int:
    """Return 0, or 1 when a gate was missed."""
    options = _read_options()
    if MariaDB.missing():
        sys.exit("benchmarks need mariadbd: apt-get install mariadb-server")
    # Leave through the same door as for Ctrl-C, which stops everything.
    signal.signal(signal.SIGTERM, _leave)
    configure_logs("console", "warning")
    sizes = QUICK if options.quick else Sizes()
    asked = {name: getattr(options, name) for name in ("expired", "jobs_ended", "credentials")}
    sizes = replace(sizes, **{name: size for name, size in asked.items() if size})
    start, neighbours = time.monotonic(), report.Neighbours()
    with _scratch(options.directory) as directory, Bench(directory, sizes, _say).running() as bench:
        environment = report.describe_environment(bench.admin)
        figures = _measure(bench, options.only or list(MEASURES))
    seconds, others = time.monotonic() - start, neighbours.cores()
    environment["command"] = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    environment["this run"] = f"{seconds:.0f} s, while other programs used {others:.2f} cores"
    _say(f"\n{report.table(figures)}\n\nThis run: {environment['this run']}.")
    if not options.quick and not options.only:
        report.write(DOCUMENT, figures, environment, sizes, existing.OBJECTS)
        _say(f"written to {DOCUMENT}")
    return 1 if any(figure.fails for figure in figures) else 0


def _measure(bench: Bench, rows: list[str]) -> list[Figure]:
    figures = []
    for row in rows:
        _say(f"{row} ...")
        measured = MEASURES[row](bench)
        for figure in measured:
            _say(report.summary(figure))
        figures += measured
    return sorted(figures, key=lambda figure: int(figure.row[1:]))


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds; writes no document")
    parser.add_argument("--only", nargs="+", choices=MEASURES, help="some rows; writes no document")
    parser.add_argument("--expired", type=int, help="credentials that expire at once, for P7, P8")
    parser.add_argument("--jobs", type=int, dest="jobs_ended", help="finished ones, for P15")
    parser.add_argument("--credentials", type=int, help="live ones, for P14 and P15")
    parser.add_argument(
        "--directory", type=Path, default=SCRATCH, help="new one for temporary files"
    )
    return parser.parse_args()


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """Make an empty directory for a block and remove it after."""
    directory = directory.absolute()
    if directory == SCRATCH:
        # A killed run leaves it behind.
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        _remove_if_empty(directory.parent)


def _remove_if_empty(directory: Path) -> None:
    if not os.listdir(directory):
        directory.rmdir()


def _say(text: str) -> None:
    print(text, flush=True)


def _leave(*_: object) -> NoReturn:
    sys.exit(143)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
