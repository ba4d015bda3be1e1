"""P7 and P8: very many credentials that expire at once, and what others notice of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import func, insert, select

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.creating import (
    BODY,
    create_over_http,
    make_credentials,
    processor_time,
)
from benchmarks.figures import Bar, Figure, p50, p99, ratios
from benchmarks.load import request, run_load
from devstack.processes import wait_until
from provisioning.configuration.secrets import Secret
from provisioning.state.database import read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials, Job

#: Batches that one worker process removes at once on a server, by default: each has a connection.
CONNECTIONS = 2
#: Pause between two creations, or two deletes, of somebody who uses the service meanwhile.
PAUSE = 0.03
#: Creations, one after the other; the slowest one of a quiet time counts.
QUIET = 100
#: Seconds a drain may take for each of its credentials, on a machine that others use too.
PATIENCE = 0.2


def measure_rate(bench: Bench) -> list[Figure]:
    """Removals per second by one worker process, against raw DROPs over as many connections.

    The service's time runs from the first delete job's record to the last one's end.
    """
    amount = bench.sizes.expired
    worker = [bench.service.processes["worker"].pid]
    connections = [raw.connect(bench.mariadb) for _ in range(CONNECTIONS)]
    drained, bare, work = [], [], []
    for _ in range(bench.sizes.rounds):
        names = _make(bench, amount)
        used = processor_time(worker)
        drained.append(_drain(bench, names))
        work.append((processor_time(worker) - used) / amount)
        bare.append(raw.in_parallel(raw.drop, connections, _make(bench, amount)))
    for connection in connections:
        connection.close()
    what = f"{amount:,} expired at once"
    return [
        Figure("P7", f"{what}: removals / raw DROP USER, DROP DATABASE", "x",
               ratios(drained, bare), aim=Bar(0.7, at_least=True)),
        Figure("P7", f"{what}: removals, one worker process", "/s", drained),
        Figure("P7", f"raw DROP USER, DROP DATABASE, {CONNECTIONS} connections", "/s", bare),
        Figure("P7", "processor time of the worker for a removal", "ms", work),
    ]  # fmt: skip


def measure_neighbours(bench: Bench) -> list[Figure]:
    """Creations over HTTP while nothing and while very many expire; deletes in that time."""
    quiet: list[float] = []
    busy: list[float] = []
    deletes: list[float] = []
    for _ in range(bench.sizes.rounds):
        with raw.restored(bench.admin):
            names = _make(bench, bench.sizes.expired)
            quiet += _create_now_and_then(bench, QUIET)
            going = make_credentials(bench, QUIET)
            with _draining(bench, names) as goes_on:
                while goes_on() and going:
                    one = going.pop()
                    busy += _create_now_and_then(bench, 1)
                    delete = request("DELETE", f"/provisioning/mysql/{one.id}", one.token)
                    deletes += run_load(bench.service.port, [delete], clients=1, status=200).times
    what = f"{bench.sizes.expired:,} expire"
    return [
        Figure("P8", f"create over HTTP, one client, while {what}, p99 / quiet p99", "x",
               [p99(busy) / p99(quiet)], aim=Bar(5)),
        Figure("P8", f"create over HTTP while {what}, p99", "ms", [p99(busy)]),
        Figure("P8", f"create over HTTP while {what}, p50", "ms", [p50(busy)]),
        Figure("P8", "create over HTTP in a quiet time, p99", "ms", [p99(quiet)]),
        Figure("P8", f"DELETE over HTTP until 200 while {what}, p50", "ms", [p50(deletes)]),
        Figure("P8", f"DELETE over HTTP until 200 while {what}, slowest", "ms", [max(deletes)]),
    ]  # fmt: skip


def _create_now_and_then(bench: Bench, amount: int) -> list[float]:
    times = []
    for _ in range(amount):
        time.sleep(PAUSE)
        times += create_over_http(bench, 1, clients=1).times
    return times


def _make(bench: Bench, amount: int) -> list[str]:
    """Make logins and databases by raw SQL; return their names."""
    names = [raw.new_name() for _ in range(amount)]
    connections = [raw.connect(bench.mariadb) for _ in range(CONNECTIONS)]
    raw.in_parallel(raw.create, connections, names)
    for connection in connections:
        connection.close()
    return names


def _drain(bench: Bench, names: list[str]) -> float:
    """Let credentials expire and be removed; return removals per second."""
    with _draining(bench, names):
        pass
    database = bench.service.installation.database
    first = select(func.min(Credentials.id)).where(Credentials.user_name.in_(names[:1]))
    span = func.max(Job.ended_at) - func.min(Job.created_at)
    query = select(span).where(Job.credentials_id >= first.scalar_subquery())
    with database.read() as session:
        milliseconds = session.execute(query).scalar_one()
    return len(names) * 1000 / float(milliseconds or 1)


@contextmanager
def _draining(bench: Bench, names: list[str]) -> Iterator["_GoesOn"]:
    """Record credentials that have just expired, and wait for their end after the block.

    The block gets a function that tells whether it goes on.
    """
    numbers = _record(bench, names)
    left = _GoesOn(bench, numbers)
    wait_until(left.has_begun, timeout=30, what="the first removal")
    yield left
    wait_until(lambda: not left(), timeout=30 + PATIENCE * len(names), what="the last removal")


class _GoesOn:
    """Whether something is left of expired credentials."""

    def __init__(self, bench: Bench, numbers: list[int]) -> None:
        self._database = bench.service.installation.database
        self._first, self._last, self._amount = numbers[0], numbers[-1], len(numbers)

    def __call__(self) -> bool:
        return self._dropped() < self._amount

    def has_begun(self) -> bool:
        return self._dropped() > 0

    def _dropped(self) -> int:
        query = select(func.count()).where(
            Credentials.id.between(self._first, self._last),
            Credentials.state == CredentialsState.DROPPED,
        )
        with self._database.read() as session:
            return session.execute(query).scalar_one()


def _record(bench: Bench, names: list[str]) -> list[int]:
    installation = bench.service.installation
    secret = installation.vault.encrypt(Secret(raw.PASSWORD))
    first = next(_first_numbers)
    numbers = list(range(first, first + len(names)))
    with installation.database.write() as session:
        now = read_clock(session)
        rows = [
            {
                "id": number,
                "backend": "mysql",
                "type": BODY["type"],
                "state": CredentialsState.ACTIVE,
                "slot": f"{number}:mysql:transformations",
                "project_id": "70",
                "project_name": "Benchmark",
                "token_id": str(number),
                "token_description": "benchmark",
                "server": "default",
                "user_name": name,
                "object_name": name,
                "secret": secret,
                "created_at": now,
                "touched_at": now - now % 1000,
                "expires_at": now - 1,
                "claim_token": 1,
                "attempts": 0,
                "not_before": 0,
            }
            for number, name in zip(numbers, names, strict=True)
        ]
        session.execute(insert(Credentials), rows)
    return numbers


#: Beyond all that the service gives out itself, and `existing` uses.
_first_numbers = iter(range(5_000_000_000, 6_000_000_000, 1_000_000))
