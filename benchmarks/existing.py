"""P4: POST of a credential that exists, with few and with very many rows in the state."""

import hashlib
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.figures import Bar, Figure, p50, p99, ratios
from benchmarks.load import Load, lasting, request, run_load
from benchmarks.service import Service
from provisioning.configuration.secrets import Secret

#: Enough to keep two front processes busy; the crowd shows what queueing adds.
CLIENTS, CROWD = 8, 16
SMALL_STATE = 1_000
#: Credentials that are on the server; the rows share them, since a POST looks there.
OBJECTS = 200
CHUNK = 100_000
#: Ids of the rows start here, beyond all that the service gives out itself.
FIRST_ID = 1_000_000_000


def measure(bench: Bench) -> list[Figure]:
    """Answers per second and milliseconds, eight clients, two front processes.

    Two services on the same servers take turns. Each request is for a token chosen at random
    from all rows.
    """
    with ExitStack() as stack:
        stack.enter_context(raw.restored(bench.admin))
        names = [raw.new_name() for _ in range(OBJECTS)]
        for name in names:
            raw.create(bench.admin, name)
        few, many = bench.new_service(stack), bench.new_service(stack)
        fill(few, SMALL_STATE, names, seconds=60)
        start = time.monotonic()
        rows = fill(many, bench.sizes.rows, names, bench.sizes.filling_seconds)
        bench.say(f"{rows:,} rows in {time.monotonic() - start:.0f} s")
        for service in (few, many):
            service.start_front("web", 2)
            _post(service, SMALL_STATE, CLIENTS, seconds=1)
        of_few, of_many, of_crowd = [], [], []
        seconds = bench.sizes.reading_seconds
        for _ in range(bench.sizes.rounds):
            of_few.append(_post(few, SMALL_STATE, CLIENTS, seconds))
            of_many.append(_post(many, rows, CLIENTS, seconds))
            of_crowd.append(_post(few, SMALL_STATE, CROWD, seconds))
    return _figures(of_few, of_many, of_crowd, f"{rows:,} rows")


def _figures(few: list[Load], many: list[Load], crowd: list[Load], size: str) -> list[Figure]:
    rates = [load.rate for load in few], [load.rate for load in many]
    what = f"POST of existing, {CLIENTS} clients"
    most = f"POST of existing, {CROWD} clients, 1,000 rows"
    return [
        Figure("P4", f"{what}, 1,000 rows", "/s", rates[0], aim=Bar(800, at_least=True)),
        Figure("P4", f"{what}, 1,000 rows, p50", "ms", [p50(x.times) for x in few]),
        Figure("P4", f"{what}, 1,000 rows, p99", "ms", [p99(x.times) for x in few], aim=Bar(25)),
        Figure("P4", f"{what}, {size}", "/s", rates[1], aim=Bar(800, at_least=True)),
        Figure("P4", f"{what}, {size}, p99", "ms", [p99(x.times) for x in many], aim=Bar(25)),
        Figure("P4", f"rate with 1,000 rows / with {size}", "x", ratios(*rates), aim=Bar(1.2)),
        Figure("P4", most, "/s", [load.rate for load in crowd]),
        Figure("P4", f"{most}, p99", "ms", [p99(load.times) for load in crowd]),
    ]


def _post(service: Service, rows: int, clients: int, seconds: float) -> Load:
    requests = lasting(seconds, _random_posts(rows))
    return run_load(service.port, requests, clients=clients, status=201)


def _random_posts(rows: int) -> Iterator[bytes]:
    while True:
        token = token_of(random.randrange(rows))
        yield request("POST", "/provisioning/mysql", token, {"type": "transformations"})


def token_of(position: int) -> str:
    """Return the token whose credential is the row at ``position``."""
    return f"70-{FIRST_ID + position}-benchmark"


def fill(service: Service, rows: int, names: list[str], seconds: float) -> int:
    """Write active credentials and their tokens straight into a stopped service's state.

    Returns how many there are when all are written or the time is over.
    """
    secret = service.installation.vault.encrypt(Secret(raw.PASSWORD))
    service.installation.database.dispose()
    end = time.monotonic() + seconds
    with closing(sqlite3.connect(service.state_file, isolation_level=None)) as state:
        state.create_function("digest", 1, _digest, deterministic=True)
        for pragma in ("journal_mode=DELETE", "synchronous=OFF", "cache_size=-500000"):
            state.execute(f"PRAGMA {pragma}")
        state.execute("CREATE TEMP TABLE names (position INTEGER PRIMARY KEY, name TEXT)")
        state.executemany("INSERT INTO names VALUES (?, ?)", enumerate(names))
        done = 0
        while done < rows and time.monotonic() < end:
            upto = min(done + CHUNK, rows)
            values = {"start": done, "upto": upto, "first": FIRST_ID, "names": len(names)}
            state.execute("BEGIN")
            state.execute(_TOKENS, values)
            state.execute(_CREDENTIALS, values | {"secret": secret})
            state.execute("COMMIT")
            done = upto
        state.execute("PRAGMA journal_mode=WAL")
    # What is still to be written would disturb the measure.
    os.sync()
    return done


def _digest(position: int) -> str:
    return hashlib.sha256(token_of(position).encode()).hexdigest()


_POSITIONS = (
    "WITH RECURSIVE positions(i) AS "
    "(SELECT :start UNION ALL SELECT i + 1 FROM positions WHERE i + 1 < :upto) "
)
_TOKENS = (
    "INSERT INTO local_tokens (id, digest, description, project_id, project_name, features, "
    f"limits, created_at) {_POSITIONS} "
    "SELECT :first + i, digest(i), 'benchmark', '70', 'Benchmark', '[]', '{}', 1750000000000 "
    "FROM positions"
)
_CREDENTIALS = (
    "INSERT INTO credentials (id, backend, type, state, slot, project_id, project_name, token_id, "
    "token_description, server, user_name, object_name, secret, created_at, touched_at, "
    f"expires_at, claim_token, attempts, not_before) {_POSITIONS} "
    "SELECT :first + i, 'mysql', 'transformations', 'active', "
    "(:first + i) || ':mysql:transformations', '70', 'Benchmark', CAST(:first + i AS TEXT), "
    "'benchmark', 'default', name, name, :secret, now, now, now + 500000000 + i, 1, 0, 0 "
    "FROM positions JOIN names ON position = i % :names, "
    "(SELECT CAST(strftime('%s', 'now') AS INTEGER) * 1000 AS now)"
)
