"""`docs/benchmarks.md`: the figures, how they are measured, and on which machine."""

import os
import platform
import resource
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import raw
from benchmarks.bench import Sizes
from benchmarks.figures import Bar, Figure, show
from devstack.procfile import TREE

PACKAGES = ("gunicorn", "flask", "sqlalchemy", "pymysql", "celery")

INTRODUCTION = """\
# Benchmarks

`make bench` writes this file. It starts its own MariaDB, its own broker and the service, with the
commands of the `Procfile`, default settings, the state in SQLite and everything durable; it
measures, and then removes all of it. It needs no other machine and takes a few minutes. Sandboxes
are measured on a private Docker engine if root runs the benchmark and Docker and mmdebstrap are
installed; otherwise it says that their rows are skipped.

**Raw** is the same SQL, run by a plain script over warm connections to the same server with the
same number of logins. The service and raw take turns, round by round, so that a noisy machine
disturbs both: trust the ratios, and take times and rates as a hint. The load generator is one
Python process on the same cores as everything else.

A *gate* must hold, or `make bench` fails; an *aim* is what the service was built for.
"""

METHOD = """\
## How each is measured

- **P1-P3.** POST of a new `transformations` credential, each with a new token. Besides, the
  service looks the token up, commits its intent, takes the engine's lock, logs in as the new user
  to see that the login works, and commits the outcome; raw is the three statements alone. The
  processor time of a create shows what two idle cores could do at best.
- **P4.** POST of credentials that exist already, to two front processes; each request is for a
  token chosen at random from all rows. The rows and tokens are written straight into the state
  database. They share {objects} databases on the server, since the service looks there before it
  answers.
- **P5.** GET of one credential; half of them have an open session. The queries for sessions are
  counted in the server's general log (`mysql.general_log`), in separate runs. After a quiet time a
  front may list the sessions a few extra times, so that a lone reader never gets an outdated
  "not in use"; that burst has its own line.
- **P6.** A login with one open session and one table. The backend's `drop` takes the login away,
  ends its sessions, drops its database and checks that nothing is left; raw does not check. DELETE
  over HTTP is the same through a job, a broker and a worker, until the caller has its 200.
- **P7.** Credentials are written into the state as if just expired; their logins and databases are
  made by raw SQL. The time runs from the record of the first delete job to the end of the last one.
  Raw drops as many with the two DROPs alone, over as many connections as one worker process uses.
  Besides, the service takes locks, lists sessions, checks that everything is gone, and keeps jobs
  and an audit. The more logins a server has, the larger its own share of the time: the few hundred
  of `make bench` mostly measure the worker's processor time.
  `--only P7 P8 --expired 10000` is the long form.
- **P8.** From time to time one client creates a credential and another one is deleted: first in a
  quiet time, then while that many expire at once. All rounds together.
- **P9.** From the rows of create jobs: `ended_at` - `created_at`, with a stub instead of a
  notebook, so that only the making counts. Raw makes a network, a container and its files, starts
  it and polls its page, with one client of Docker's library. Besides, the service looks for
  leftovers and commits each step. The caller's line includes the HTTP of the create and of
  `GET /queue/job/ID?wait=60`.
- **P10.** Eight callers, each with its own connection and token, create and drop, and wait for
  both; raw is eight threads with a client each. A drop by the service ends with a check that
  everything is gone and the port is closed.
- **P12.** POST of creates by one client while no sandbox worker runs and a thousand jobs wait,
  taking turns with a service where only the jobs it has just accepted wait.
- **P13.** From the rows of kill jobs, one at a time: `started_at` - `created_at`.
- **P14-P16.** On a private PostgreSQL: two states, each filled by a few statements for all rows,
  take turns, call by call. P15 calls the functions of fronts and workers, without HTTP. Forty jobs
  wait in each state. `--only P15 --jobs 10000000 --credentials 1000000` is the long form (a quarter
  of an hour, 6 GB).
- **P17.** `/proc/PID/smaps_rollup` after the first requests and jobs, one value per process.
- **P18.** Creates inside one process: as the service makes them, and with the same backend but
  without intent or claim and with a single commit at the end. The engine's lock is timed
  separately and counted as part of the cost.

## Repeat

    make bench

or, once `.venv` is there, `.venv/bin/python -m benchmarks`. `--quick` is a short round that writes
nothing; `--only P1 P4` measures only those rows.
"""


def write(
    file: Path, figures: Sequence[Figure], environment: dict[str, str], sizes: Sizes, objects: int
) -> None:
    """Write the document."""
    lines = [f"- {name}: {value}" for name, value in environment.items()]
    parts = [
        INTRODUCTION,
        f"## Figures\n\nMedians and spread (lowest - highest) of {sizes.rounds} rounds, "
        f"interleaved.\n\n{table(figures)}\n",
        "## Environment\n\n" + "\n".join(lines) + "\n",
        METHOD.format(objects=objects),
    ]
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(parts))


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table."""
    head = ("row", "measure", "median", "spread", "gate", "aim", "verdict")
    rows = [head, tuple("---" for _ in head), *(_cells(figure) for figure in figures)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _cells(figure: Figure) -> tuple[str, ...]:
    return (
        figure.row,
        figure.measure,
        f"{show(figure.median)} {figure.unit}".strip(),
        figure.spread if len(figure.values) > 1 else "",
        _bar(figure.gate),
        _bar(figure.aim),
        figure.verdict,
    )


def _bar(bar: Bar | None) -> str:
    return "" if bar is None else str(bar)


def describe_machine() -> dict[str, str]:
    """Return what any figure depends on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    }


def describe_environment(admin: Any) -> dict[str, str]:
    """Return what the figures depend on."""
    ((mariadb,),) = raw.run(admin, "SELECT VERSION()")
    ((flush,),) = raw.run(admin, "SELECT @@innodb_flush_log_at_trx_commit")
    return {
        **describe_machine(),
        "servers": f"MariaDB {mariadb} (innodb_flush_log_at_trx_commit={flush}), "
        f"SQLite {sqlite3.sqlite_version} (WAL, synchronous=FULL)",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
        "logins on the server beside those measured": str(raw.count_users(admin)),
    }


class Neighbours:
    """How much of the machine other programs use while we run: the less, the better."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._busy, self._ours = _machine_seconds(), _our_seconds()

    def cores(self) -> float:
        """Return the cores they used on average; ask after all children have ended."""
        others = _machine_seconds() - self._busy - (_our_seconds() - self._ours)
        return max(0.0, others / (time.monotonic() - self._start))


def _machine_seconds() -> float:
    """Return the processor time that all programs have used since the machine's start."""
    user, nice, system, _, _, interrupt, soft_interrupt, *_ = (
        int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:8]
    )
    ticks = user + nice + system + interrupt + soft_interrupt
    return ticks / os.sysconf("SC_CLK_TCK")


def _our_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty=, with changes"],
            cwd=TREE,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def summary(figure: Figure) -> str:
    """Return one line for the terminal while the run goes on."""
    value = f"{show(figure.median)} {figure.unit}".strip()
    return f"  {figure.row:4} {figure.measure:62} {value:>12}  ({figure.spread})  {figure.verdict}"
