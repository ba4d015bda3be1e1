"""`docs/reliability.md`: the faults, where they were tried, and what they left behind."""

import subprocess
from collections.abc import Mapping, Sequence

from devstack.executables import find_postgres_program, find_program, find_valkey_server
from devstack.procfile import TREE
from tests.faults.record import COUNTERS

DOCUMENT = TREE / "docs" / "reliability.md"
#: The table's columns.
HEAD = ("row", "fault", "rounds", "kills", *COUNTERS, "slowest", "figures", "verdict")

INTRODUCTION = """\
# Reliability

`make chaos` writes this file. It starts private servers and services, with several fronts, workers
and schedulers as the `Procfile` runs them; breaks them in every way listed below while clients
work; lets everything settle; and compares what the state promises with what the servers have. It
takes about half an hour and removes everything afterwards.

Six counters must be zero in every row:

- **orphans**: objects on a server that have our prefix or label but no live row,
- **ghosts**: active rows whose database, schema or container is missing, or whose login fails,
- **zombies**: rows and jobs that are unfinished past their time,
- **open**: sessions of dropped logins, or in dropped databases,
- **double**: more than one live credential or object for one token and type,
- **lost**: broken promises of either kind: something was acknowledged and cannot be read, or
  something was dropped and still can.

*Rounds* is how often the fault was caused. *Kills* is how many processes it ended with `kill -9`
(a kill at a step counts if a process reached the step and died there). *Slowest* is the longest
time that a client waited for a good answer, including its repeats: a client repeats a request that
was answered with 503 or not at all.
"""

METHOD = """\
## What is not in the table

- Snowflake is a simulator of its protocol, and Redshift is PostgreSQL behind the same code: these
  figures do not show what the real servers do in such faults. The steps of `redshift-workspace` are
  killed at a sample of points only, since `postgresql` runs the same code.
- Everything runs on one machine. Of a network that loses or delays packets between hosts, only
  connections that end or hang are tried.
- A full disk is not tried. Neither is a power cut of the whole machine: servers and processes die
  with `kill -9`, one kind at a time, and the disk's cache survives.
- The storm of F2 is for MySQL; the other backends and the sandboxes are killed step by step in F1.
- A sandbox's sessions are connections to its container and end with it, so `open` does not count
  them.

`tests/faults/test_oracle.py` tests that the oracle sees what it counts, and
`tests/faults/test_guards.py` that the tests fail without the protections they are for.

## Repeat

    make chaos

or, once `.venv` is there, `.venv/bin/python -m tests.faults.chaos`. `--quick` takes a few minutes
and leaves some tests out; `--only F2 F7` runs only those rows and writes nothing. The lengths above
are environment variables: `CHAOS_SECONDS=36000 make chaos` runs for ten hours. `make test` runs the
same tests for shorter times.
"""


def write(rows: Sequence[Sequence[str]], environment: Mapping[str, str]) -> None:
    """Write the document."""
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    facts = "\n".join(f"- {name}: {value}" for name, value in environment.items())
    parts = [INTRODUCTION, f"## Table\n\n{table}\n", f"## Environment\n\n{facts}\n", METHOD]
    DOCUMENT.write_text("\n".join(parts))


def describe_servers() -> str:
    """Return the versions of the installed servers, which are those that were broken."""
    programs = (
        find_program("mariadbd"),
        find_postgres_program("postgres"),
        find_valkey_server(),
        find_program("dockerd"),
    )
    return ", ".join(_version(program) for program in programs if program)


def _version(program: str) -> str:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return shown.stdout.strip().removeprefix(f"{program}  ")
