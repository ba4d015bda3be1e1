"""P9, P10 and P12: sandboxes on a private Docker engine, against the same calls by themselves.

The image is a stub that starts at once, so what is measured is the making and not a notebook.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import select

from benchmarks.bench import Bench
from benchmarks.figures import Bar, Figure, p50, p99, ratios
from benchmarks.load import LoadFailed, request, run_load
from benchmarks.raw import timed
from benchmarks.raw_sandboxes import RawSandboxes
from benchmarks.service import Service
from devstack import images
from devstack.docker import DockerEngine
from devstack.ports import HOST
from provisioning.state.models import Job

PATH = "/provisioning/async/docker"
BODY = {"type": "jupyter"}
#: Sandboxes that come and go at once.
CROWD = 8
WAITING_JOBS = 1000
MISSING = "skipped: sandboxes need Docker, mmdebstrap and root"


def measure_single(bench: Bench) -> list[Figure]:
    """P9: milliseconds from the acceptance of a create to its end, one after the other.

    The service and raw take turns sandbox by sandbox, since an engine's speed changes fast.
    """
    if _is_missing(bench):
        return []
    jobs, callers, reference = [], [], []
    with _engine() as engine, _service(bench, engine) as service:
        raw = RawSandboxes(engine)
        _cycle(_Caller(service))
        raw.drop(raw.create())
        for _ in range(bench.sizes.rounds):
            rows: list[float] = []
            calls: list[float] = []
            scripts: list[float] = []
            for _ in range(bench.sizes.sandboxes):
                caller = _Caller(service)
                calls.append(timed(caller.create))
                rows.append(_seconds_of(service, caller.job) * 1000)
                caller.drop()
                names: list[str] = []
                scripts.append(timed(lambda made=names: made.append(raw.create())))  # type: ignore[misc]
                raw.drop(names[0])
            jobs.append(p50(rows))
            callers.append(p50(calls))
            reference.append(p50(scripts))
    added = [job - raw for job, raw in zip(jobs, reference, strict=True)]
    return [
        Figure("P9", "docker: accepted until ready, one at a time, p50", "ms", jobs),
        Figure("P9", "docker: the same for a caller who waits, p50", "ms", callers),
        Figure("P9", "docker: raw create until ready, p50", "ms", reference),
        Figure("P9", "docker: accepted until ready / raw", "", ratios(jobs, reference),
               aim=Bar(1.25), gate=Bar(1.5)),
        Figure("P9", "docker: added time", "ms", added, aim=Bar(40)),
    ]  # fmt: skip


def measure_crowd(bench: Bench) -> list[Figure]:
    """P10: sandboxes made and dropped in a second, eight at once."""
    if _is_missing(bench):
        return []
    service_rates, reference = [], []
    with _engine() as engine, _service(bench, engine) as service:
        raws = [RawSandboxes(engine) for _ in range(CROWD)]
        for _ in range(bench.sizes.rounds):
            amount = bench.sizes.sandbox_cycles
            callers = [_Caller(service) for _ in range(CROWD)]
            service_rates.append(_rate([lambda c=c: _cycle(c) for c in callers], amount))  # type: ignore[misc]
            reference.append(_rate([lambda r=r: r.drop(r.create()) for r in raws], amount))  # type: ignore[misc]
    return [
        Figure("P10", f"docker: full cycles, {CROWD} at once", "/s", service_rates),
        Figure("P10", "docker: the same, raw", "/s", reference),
        Figure("P10", "docker: full cycles / raw", "", ratios(service_rates, reference),
               aim=Bar(0.8, at_least=True), gate=Bar(0.6, at_least=True)),
    ]  # fmt: skip


def measure_accepting(bench: Bench) -> list[Figure]:
    """P12: milliseconds until a create is accepted while a thousand others wait.

    No worker of sandboxes runs and no engine is there, since a front asks neither.
    """
    amount = bench.sizes.creations
    idle, crowded = [], []
    with ExitStack() as stack:
        services = [
            bench.new_service(stack, {"DOCKER_URL": "unix:///nowhere/docker.sock"})
            for _ in range(2)
        ]
        for service in services:
            service.start()
        empty, full = services
        run_load(full.port, _orders(full, WAITING_JOBS), clients=8, status=202)
        for _ in range(bench.sizes.rounds):
            idle.append(_accept_one_by_one(empty, amount))
            crowded.append(_accept_one_by_one(full, amount))
    return [
        Figure("P12", "docker: async create accepted, few jobs waiting, p50", "ms",
               [p50(times) for times in idle]),
        Figure("P12", f"docker: the same, {WAITING_JOBS} jobs waiting, p50", "ms",
               [p50(times) for times in crowded]),
        Figure("P12", "docker: the same, p99 (of all rounds together)", "ms",
               [p99(time for times in crowded for time in times)], aim=Bar(30), gate=Bar(60)),
    ]  # fmt: skip


def _accept_one_by_one(service: Service, amount: int) -> list[float]:
    return run_load(service.port, _orders(service, amount), clients=1, status=202).times


def _is_missing(bench: Bench) -> bool:
    missing = DockerEngine.missing() or images.missing() or os.geteuid() != 0
    if missing:
        bench.say(f"  {MISSING}")
    return missing


@contextmanager
def _engine() -> Iterator[DockerEngine]:
    """An engine of the cache, which has the image from the second run on."""
    engine = images.start_engine()
    try:
        client = engine.client()
        images.provide(client, images.STUB)
        client.close()
        yield engine
        raw = RawSandboxes(engine)
        raw.drop_all()
        raw.close()
    finally:
        engine.stop()


@contextmanager
def _service(bench: Bench, engine: DockerEngine) -> Iterator[Service]:
    options = {
        "public_host": engine.public_host,
        "jupyter_image": images.STUB.tag,
        "memory_mb": 128,
    }
    with ExitStack() as stack:
        url = f"{engine.url}?{urlencode(options)}"
        service = bench.new_service(stack, {"DOCKER_URL": url})
        service.start()
        service.start_sandbox_worker()
        yield service


def _orders(service: Service, amount: int) -> Iterator[bytes]:
    return (request("POST", PATH, token, BODY) for token in service.make_tokens(amount))


class _Caller:
    """A token's client over one connection, which makes a sandbox and drops it."""

    def __init__(self, service: Service) -> None:
        (self._token,) = service.make_tokens(1)
        self._connection = HTTPConnection(HOST, service.port, timeout=90)
        self._made = 0
        #: The job that created.
        self.job = 0

    def create(self) -> None:
        self.job = int(self._ask("POST", PATH, 202)["id"])
        self._made = self._wait(self.job)["credentials"]["id"]

    def drop(self) -> None:
        self._wait(int(self._ask("DELETE", f"{PATH}/{self._made}", 200)["id"]))

    def _wait(self, job: int) -> Any:
        record = self._ask("GET", f"/queue/job/{job}?wait=60", 200)
        if record["status"] != "success":
            raise LoadFailed(f"job {job}: {record}")
        return record["result"]

    def _ask(self, method: str, path: str, status: int) -> Any:
        body = json.dumps(BODY) if method == "POST" else None
        headers = {"X-StorageApi-Token": self._token, "Content-Type": "application/json"}
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != status:
            raise LoadFailed(f"status {answer.status}: {text[:300]!r}")
        return json.loads(text)


def _cycle(caller: _Caller) -> None:
    caller.create()
    caller.drop()


def _seconds_of(service: Service, job: int) -> float:
    """Return how long a job took from its acceptance, as its row has it."""
    query = select(Job.ended_at - Job.created_at).where(Job.id == job)
    with service.installation.database.read() as session:
        return float(session.execute(query).scalar_one() or 0) / 1000


def _rate(cycles: list[Callable[[], object]], amount: int) -> float:
    """Run each cycle ``amount`` times, side by side, and return the rate of all."""

    def repeat(cycle: Callable[[], object]) -> None:
        for _ in range(amount):
            cycle()

    with ThreadPoolExecutor(len(cycles)) as pool:
        start = perf_counter()
        list(pool.map(repeat, cycles))
        return len(cycles) * amount / (perf_counter() - start)
