"""P14, P15 and P16: the state's work with few rows and with very many."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import FromClause, Index, Table, create_engine, insert, text

from benchmarks.bench import Bench
from benchmarks.figures import Bar, Figure, p50, ratios
from benchmarks.memory import megabytes
from benchmarks.service import Service
from devstack.postgres import Postgres
from devstack.processes import descendants
from provisioning.background import retention
from provisioning.background.sweep import sweep
from provisioning.credentials.creation import read_slot
from provisioning.installation import Installation
from provisioning.jobs.backlog import find_queue_position, require_queue_space
from provisioning.jobs.outcomes import close_job, success
from provisioning.jobs.reading import find_job
from provisioning.jobs.recording import record_job
from provisioning.jobs.scheduling import claim_next, next_job
from provisioning.jobs.search.language import parse
from provisioning.jobs.search.listing import JobSearch, list_jobs
from provisioning.state.database import next_numbers, read_clock
from provisioning.state.enums import JobCommand, JobStatus
from provisioning.state.models import Credentials, Job

#: Rows of the small state: jobs, and credentials.
FEW = 1_000
#: Projects of the finished jobs at most.
PROJECTS = 1_000
#: Jobs that wait, as many in both states, and their projects.
WAITING, WAITING_PROJECTS = 40, 5
#: Times that each thing is done in a round.
TIMES = 20
DAY = 86_400_000


@dataclass(frozen=True)
class State:
    """A service's state and what is looked up in it."""

    installation: Installation
    jobs: int
    credentials: int


def measure(bench: Bench) -> list[Figure]:
    """Milliseconds of what fronts and workers ask of the state, few rows and many in turn."""
    if Postgres.missing():
        bench.say("PostgreSQL is not installed: skipped")
        return []
    with ExitStack() as stack:
        server = stack.enter_context(Postgres(bench.directory / "postgres"))
        few, small = _new_state(bench, stack, server, "few", FEW, FEW)
        many, large = _new_state(
            bench, stack, server, "many", bench.sizes.jobs_ended, bench.sizes.credentials
        )
        figures = _compare(bench, small, large)
        return figures + _start(few, many, large)


def _new_state(
    bench: Bench, stack: ExitStack, server: Postgres, name: str, jobs: int, credentials: int
) -> tuple[Service, State]:
    server.ensure_database(name)
    url = server.database_url(name)
    service = bench.new_service(stack, {"STATE_URL": url})
    start = time.monotonic()
    fill(url, jobs, credentials)
    bench.say(f"{jobs:,} jobs, {credentials:,} credentials in {time.monotonic() - start:.0f} s")
    state = State(service.installation, jobs, credentials)
    _add_waiting(state)
    return service, state


# What is measured -----------------------------------------------------------------------


def _list(state: State, **search: Any) -> None:
    found = list_jobs(state.installation.database, "1", "", JobSearch(limit=50, **search))
    assert sum(map(len, found)) == 50


def _page(state: State) -> None:
    _list(state)


def _page_behind(state: State) -> None:
    _list(state, before=state.jobs - 10)


def _page_offset(state: State) -> None:
    _list(state, offset=20)


def _page_filtered(state: State) -> None:
    _list(state, conditions=(parse("status:success AND command:delete"),))


def _detail(state: State) -> None:
    find_job(state.installation.database, "1", str(state.jobs - projects_of(state.jobs) + 1))


def _accept(state: State) -> None:
    require_queue_space(state.installation, "1")
    with state.installation.database.write() as session:
        row = session.get_one(Credentials, 1)
        record_job(session, JobCommand.KILL, row)


def _work(state: State) -> None:
    """Take the job that was accepted last, and end it."""
    claimed = claim_next(state.installation, 0, ["mysql"])
    assert claimed is not None
    with state.installation.database.write() as session:
        close_job(session, claimed.job, claimed.lease, **success())


def _choose(state: State) -> None:
    assert next_job(state.installation.database, ["docker"]) is not None


def _position(state: State) -> None:
    database = state.installation.database
    find_queue_position(database, find_job(database, "2", str(state.jobs + 2)))


def _slot(state: State) -> None:
    row, _ = read_slot(state.installation, f"{state.credentials // 2}:mysql:transformations")
    assert row is not None


def _sweep(state: State) -> None:
    assert len(sweep(state.installation).jobs) == WAITING


def _forget(state: State) -> None:
    retention.forget_old(state.installation)


ACTIONS: dict[str, Callable[[State], None]] = {
    "list of jobs, 50": _page,
    "list, the page before an id": _page_behind,
    "list, offset 20": _page_offset,
    "list, by status and command": _page_filtered,
    "one job": _detail,
    "accept a job": _accept,
    "take up a job and end it": _work,
    "choose among those that wait": _choose,
    "position in the queue": _position,
    "find a token's credential": _slot,
    "forget what is old: nothing is": _forget,
}


def _compare(bench: Bench, small: State, large: State) -> list[Figure]:
    figures = []
    size = f"{large.jobs:,} jobs, {large.credentials:,} credentials"
    for what, action in ACTIONS.items():
        few, many = _in_turns(bench, action, small, large)
        figures += [
            Figure("P15", f"{what}: with {size} / with {FEW:,} each", "x", ratios(many, few),
                   aim=Bar(1.25)),
            Figure("P15", f"{what}, the larger state, p50", "ms", many),
        ]  # fmt: skip
    _, many = _in_turns(bench, _sweep, small, large)
    figures.append(
        Figure("P14", f"sweep with nothing expired, {large.credentials:,} live", "ms", many,
               aim=Bar(20))
    )  # fmt: skip
    return figures + _forgetting(bench, large)


def _in_turns(
    bench: Bench, action: Callable[[State], None], small: State, large: State
) -> tuple[list[float], list[float]]:
    few, many = [], []
    for _ in range(bench.sizes.rounds):
        # One after the other, so that a busy moment of the machine meets both.
        pairs = [(_timed(action, small), _timed(action, large)) for _ in range(TIMES)]
        few.append(p50(pair[0] for pair in pairs))
        many.append(p50(pair[1] for pair in pairs))
    return few, many


def _timed(action: Callable[[State], None], state: State) -> float:
    start = time.perf_counter()
    action(state)
    return (time.perf_counter() - start) * 1000


def _forgetting(bench: Bench, large: State) -> list[Figure]:
    """Forget a batch of the oldest at a time."""
    config = large.installation.config
    large.installation.config = replace(config, job_retention=29 * DAY // 1000)
    rounds = [p50(_timed(_forget, large) for _ in range(TIMES)) for _ in range(bench.sizes.rounds)]
    return [Figure("P15", f"forget a batch of {retention.BATCH} of {large.jobs:,}", "ms", rounds)]


def _start(few: Service, many: Service, large: State) -> list[Figure]:
    seconds, memory = [], []
    for service in (few, many):
        start = time.monotonic()
        service.start_front("web", 1)
        seconds.append(time.monotonic() - start)
        memory += megabytes("Rss", descendants(service.processes["web"].pid)[-1:])
    what = f"{large.credentials:,} credentials"
    return [
        Figure("P16", f"start of a front until it is ready, {what}", "s", seconds[1:],
               aim=Bar(3)),
        Figure("P16", f"the same / with {FEW:,}", "x", [seconds[1] / seconds[0]],
               aim=Bar(1.25)),
        Figure("P16", f"its memory / with {FEW:,}", "x", [memory[1] / memory[0]],
               aim=Bar(1.1)),
    ]  # fmt: skip


# Rows -----------------------------------------------------------------------------------


def projects_of(jobs: int) -> int:
    """Return how many projects the jobs are of: each has a hundred or more."""
    return min(jobs // 100, PROJECTS)


def fill(url: str, jobs: int, credentials: int) -> None:
    """Write finished jobs and live credentials by statements about all of them at once."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        now = int(time.time() * 1000)
        values = {
            "jobs": jobs,
            "credentials": credentials,
            "projects": projects_of(jobs),
            "first": now - 30 * DAY,
            "step": 30 * DAY / jobs,
            "now": now,
        }
        connection.execute(text("SET synchronous_commit = off"))
        connection.execute(text("SET maintenance_work_mem = '512MB'"))
        with (
            _without_indexes(connection, Job.__table__),
            _without_indexes(connection, Credentials.__table__),
        ):
            connection.execute(text(_JOBS), values)
            connection.execute(text(_CREDENTIALS), values)
        connection.execute(
            text("UPDATE sequences SET value = :jobs WHERE name = 'ticket'"), {"jobs": jobs}
        )
        connection.execute(text("VACUUM ANALYZE jobs"))
        connection.execute(text("VACUUM ANALYZE credentials"))
        # What is still to be written would disturb the measure.
        connection.execute(text("CHECKPOINT"))
    engine.dispose()


@contextmanager
def _without_indexes(connection: Any, table: FromClause) -> Iterator[None]:
    """Drop a table's indexes for a block: to make them once is faster."""
    assert isinstance(table, Table)
    indexes: set[Index] = table.indexes
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)


def _add_waiting(state: State) -> None:
    """Add jobs that wait for workers of sandboxes, as many in each state."""
    with state.installation.database.write() as session:
        now = read_clock(session)
        session.execute(
            insert(Job),
            [
                {
                    "id": number,
                    "run_id": str(number),
                    "command": JobCommand.KILL,
                    "status": JobStatus.WAITING,
                    "backend": "docker",
                    "params": {},
                    "result": {},
                    "slot": f"waiting-{number}",
                    "project_id": str(1 + position % WAITING_PROJECTS),
                    "project_name": "",
                    "token_id": "1",
                    "token_description": "",
                    "parallel_limit": WAITING,
                    "created_at": now,
                }
                for position, number in enumerate(next_numbers(session, "ticket", WAITING))
            ],
        )


_JOBS = """
INSERT INTO jobs (id, run_id, command, status, backend, params, result, progress, credentials_id,
    slot, project_id, project_name, token_id, token_description, created_at, started_at, ended_at,
    process_host, process_pid, claim_token, attempts, not_before)
SELECT i, CAST(i AS text), 'delete', 'success', 'mysql', '{"backend": "mysql", "id": "1"}',
    '{"status": "ok"}', '[]', i % :credentials, (i % 5000) || ':mysql:transformations',
    CAST(i % :projects AS text), 'Benchmark', CAST(i % 5000 AS text), 'benchmark',
    :first + CAST(i * :step AS bigint), :first + CAST(i * :step AS bigint),
    :first + CAST(i * :step AS bigint), 'host', 1, 1, 1, 0
FROM generate_series(1, :jobs) AS i
"""
_CREDENTIALS = """
INSERT INTO credentials (id, backend, type, state, slot, project_id, project_name, token_id,
    token_description, server, user_name, object_name, secret, created_at, touched_at, expires_at,
    claim_token, attempts, not_before)
SELECT i, 'mysql', 'transformations', 'active', i || ':mysql:transformations',
    CAST(i % :projects AS text), 'Benchmark', CAST(i AS text), 'benchmark', 'default',
    'sand_' || i, 'sand_' || i, 'secret', :now, :now, :now + 432000000 + i, 1, 0, 0
FROM generate_series(1, :credentials) AS i
"""
