"""P1, P2 and P3: a new MySQL credential over HTTP, against the same SQL by itself."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks import raw
from benchmarks.bench import Bench
from benchmarks.figures import Bar, Figure, p50, p99, ratios
from benchmarks.load import Load, request, run_load
from devstack.processes import descendants

CLIENTS = 16
BODY = {"type": "transformations"}


def create_over_http(bench: Bench, amount: int, clients: int) -> Load:
    """Create with a new token for each, since a token has one credential of a type."""
    tokens = bench.service.make_tokens(amount)
    requests = [request("POST", "/provisioning/mysql", token, BODY) for token in tokens]
    return run_load(bench.service.port, requests, clients=clients, status=201)


@dataclass(frozen=True)
class Made:
    """A credential another measure works with, and its owner's token."""

    token: str
    id: str
    user: str
    password: str
    database: str


def make_credentials(bench: Bench, amount: int) -> list[Made]:
    """Create credentials over HTTP, without measuring it."""
    tokens = bench.service.make_tokens(amount)
    requests = [request("POST", "/provisioning/mysql", token, BODY) for token in tokens]
    bodies: list[bytes] = []
    # With one client the answers come in the order of the requests.
    run_load(bench.service.port, requests, clients=1, status=201, on_answer=bodies.append)
    made = []
    for token, body in zip(tokens, bodies, strict=True):
        details = json.loads(body)["credentials"]
        made.append(Made(token, details["id"], details["user"], details["password"], details["db"]))
    return made


def measure_single(bench: Bench) -> list[Figure]:
    """P1: milliseconds of a creation, one client; raw is three statements on one connection."""
    amount = bench.sizes.creations
    service, reference = [], []
    for _ in range(bench.sizes.rounds):
        with raw.restored(bench.admin):
            service.append(p50(create_over_http(bench, amount, clients=1).times))
        with raw.restored(bench.admin):
            reference.append(p50(_raw_times(bench, amount)))
    return [
        Figure(
            "P1", "create over HTTP, one client, p50 / raw", "x", ratios(service, reference),
            gate=Bar(8),
        ),
        Figure("P1", "create over HTTP, one client, p50", "ms", service, aim=Bar(5)),
        Figure("P1", "raw: CREATE DATABASE, CREATE USER, GRANT, p50", "ms", reference),
    ]  # fmt: skip


def _raw_times(bench: Bench, amount: int) -> list[float]:
    return [raw.timed(lambda: raw.create(bench.admin, raw.new_name())) for _ in range(amount)]


def measure_crowd(bench: Bench) -> list[Figure]:
    """P2 and P3: creations per second by sixteen clients, and how long the slow ones take.

    The processor time of a creation is shown too: other programs on the machine change it
    far less than the rate.
    """
    amount = bench.sizes.crowd_creations
    fronts = descendants(bench.service.processes["web"].pid)
    loads, front_work, server_work, reference, raw_work = [], [], [], [], []
    connections = [raw.connect(bench.mariadb) for _ in range(CLIENTS)]
    for _ in range(bench.sizes.rounds):
        with raw.restored(bench.admin):
            front, server = processor_time(fronts), processor_time([bench.mariadb.process.pid])
            loads.append(create_over_http(bench, amount, CLIENTS))
            front_work.append((processor_time(fronts) - front) / amount)
            server_now = processor_time([bench.mariadb.process.pid])
            server_work.append((server_now - server) / amount)
        with raw.restored(bench.admin):
            server = processor_time([bench.mariadb.process.pid])
            reference.append(raw.create_in_parallel(connections, amount))
            server_now = processor_time([bench.mariadb.process.pid])
            raw_work.append((server_now - server) / amount)
    for connection in connections:
        connection.close()
    rates = [load.rate for load in loads]
    tails = [p99(load.times) for load in loads]
    middles = [p50(load.times) for load in loads]
    return [
        Figure("P2", "creates over HTTP, 16 clients, two front processes", "/s", rates,
               aim=Bar(290, at_least=True), gate=Bar(200, at_least=True)),
        Figure("P2", "raw, 16 threads and connections", "/s", reference),
        Figure("P2", "creates over HTTP / raw", "x", ratios(rates, reference)),
        Figure("P2", "processor time of the fronts for a create", "ms", front_work),
        Figure("P2", "processor time of MariaDB for a create over HTTP", "ms", server_work),
        Figure("P2", "processor time of MariaDB for a raw create", "ms", raw_work),
        Figure("P3", "creates over HTTP, 16 clients, p99 / p50", "x", ratios(tails, middles),
               aim=Bar(2)),
        Figure("P3", "creates over HTTP, 16 clients, p99", "ms", tails),
    ]  # fmt: skip


def processor_time(pids: list[int]) -> float:
    """Return the milliseconds of processor time that processes have used."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")
