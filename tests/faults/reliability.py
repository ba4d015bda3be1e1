"""`docs/reliability.md`: what the faults are, where they were tried, and what they left behind."""

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

`make chaos` writes this file. It starts private servers and services of its own, with several
fronts, workers and schedulers as the `Procfile` has them; breaks them in every way below while
clients work; lets everything settle; and compares what the state promises with what the servers
have. It takes about half an hour, and all of it is gone afterwards.

Six counters must be zero in every row:

- **orphans**: objects on a server that bear our prefix or label and that no live row names,
- **ghosts**: active rows whose database, schema or container is missing, or whose login fails,
- **zombies**: rows and jobs that are unfinished past their time,
- **open**: sessions of dropped logins, or in dropped databases,
- **double**: more than one live credential or object for one token and type,
- **lost**: promises that are not kept, either way: what was acknowledged cannot be read, or what
  was dropped still can.

*Rounds* is how often the fault was brought about, *kills* the processes that died of it with
`kill -9` (a kill at a step counts when a process has reached the step and died there), *slowest*
the longest that a client waited for a good answer, its repeats included. A client repeats what
was answered by 503 or not at all.
"""

METHOD = """\
## What is not in the table

- Snowflake is a simulator of its protocol, and Redshift is PostgreSQL behind the same code; what
  the real servers do in these faults is not known from here. The steps of `redshift-workspace`
  are killed at a sample of points, since they are the code of `postgresql`.
- Everything runs on one machine: a network that loses or delays packets between hosts is tried
  only as a connection that ends or hangs.
- A full disk is not tried. The power of a whole machine is not cut: servers and processes die
  with `kill -9`, one kind at a time, while the disk's cache survives.
- The storm of F2 is MySQL's; the other backends and the sandboxes are killed step by step in F1.
- A sandbox's sessions are connections to its container, which end with it: `open` does not count
  them.

That the oracle sees what it counts, and that the tests fail without the fences they are for, is
tested by `tests/faults/test_oracle.py` and `tests/faults/test_guards.py`.

## Repeat

    make chaos

or, with a finished environment, `.venv/bin/python -m tests.faults.chaos`. `--quick` takes
some minutes and leaves some tests out, `--only F2 F7` runs some rows and writes nothing. The
lengths above are environment variables, so `CHAOS_SECONDS=36000 make chaos` is for a weekend.
`make test` runs the same tests at shorter lengths.
"""


def write(rows: Sequence[Sequence[str]], environment: Mapping[str, str]) -> None:
    """Write the document."""
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    facts = "\n".join(f"- {name}: {value}" for name, value in environment.items())
    parts = [INTRODUCTION, f"## Table\n\n{table}\n", f"## Environment\n\n{facts}\n", METHOD]
    DOCUMENT.write_text("\n".join(parts))


def describe_servers() -> str:
    """Return the versions of the servers that were broken, of those that are installed."""
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
