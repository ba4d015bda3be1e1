"""Workers of sandboxes are killed at every step, and their engine hangs.

Whatever falls between two steps, the engine has afterwards what the rows say, no more and no
less, and every job has ended as documented.
"""

import time

import pytest

from devstack.docker import DockerEngine
from provisioning.state.enums import JobStatus
from tests.faults.record import Record
from tests.faults.sandboxes import (
    Judge,
    SandboxService,
    Traffic,
    Visitor,
    come_and_go,
    fail,
    supervised,
    think_better,
)
from tests.support.client import Client
from tests.support.deadlines import LONG_DEADLINE, bar, wait_until

CREATION = (
    *("claiming", "claimed", "recording", "intent", "network", "container", "files", "started"),
    *("packages", "ready", "active", "failed"),
)
REMOVAL = (
    *("delete.claiming", "delete.claimed", "drop.container", "drop.network", "drop.checked"),
    "delete.settled",
)
#: Twenty rounds; the last two steps of a creation are the ones with the most to lose.
POINTS = (*(f"create.{step}" for step in CREATION), *REMOVAL, "create.started", "create.ready")
#: Seconds after which another worker has taken over, with claims of two seconds.
TAKEN_OVER = bar(15.0)
#: Seconds the engine hangs.
HANG = 10.0
ENGINE_TIMEOUT = 3.0
_OWNER = "provisioning.credentials"
#: No credential has a number as high.
NEVER_GIVEN = 999_999


@pytest.fixture
def service(sandbox_service: SandboxService) -> SandboxService:
    """Three workers of sandboxes, with nothing armed."""
    return sandbox_service


@pytest.mark.fault(row="F1")
def test_workers_killed_at_every_step_leave_nothing_behind(
    service: SandboxService, judge: Judge, chaos_row: Record
) -> None:
    resident = Visitor(service)
    resident.create()
    visitors = [Visitor(service, type_) for type_ in ("jupyter", "rstudio") * 3]
    habits = [come_and_go] * 4 + [fail, think_better]
    traffic = Traffic()
    with supervised(service) as starts:
        with traffic.flowing(*zip(visitors, habits, strict=True)):
            for point in POINTS:
                service.points.arm(point)
                service.points.wait_taken(point, timeout=LONG_DEADLINE)
        assert not traffic.problems, traffic.problems
        promised = set().union(resident.promised, *(visitor.promised for visitor in visitors))
        judge.require_clean(promised)
    chaos_row.rounds = chaos_row.kills = len(POINTS)
    assert sum(starts) >= len(POINTS)
    assert traffic.cycles > len(visitors)
    assert resident.promised <= promised


@pytest.mark.fault(row="F1")
def test_another_worker_takes_over_in_time(
    service: SandboxService, judge: Judge, chaos_row: Record
) -> None:
    """Two of three workers are killed for good, one in a creation, one in a removal."""
    leaving, coming = Visitor(service), Visitor(service, "rstudio")
    number = leaving.create()["id"]
    for point in ("drop.container", "create.started"):
        service.points.arm(point)
    jobs = [(leaving, leaving.order_drop(number)), (coming, coming.order())]
    for point in ("drop.container", "create.started"):
        service.points.wait_taken(point)
    start = time.monotonic()
    for visitor, job in jobs:
        visitor.finish_well(job)
    seconds = time.monotonic() - start
    chaos_row.kills = 2
    chaos_row.note("taken over in {:.1f} s", seconds)
    assert seconds <= TAKEN_OVER
    assert sum(process.running for process in service.dockers) == 1
    coming.promised = {coming.create()["id"]}
    judge.require_clean(coming.promised)


@pytest.mark.fault(row="F1", quick=False)
def test_workers_killed_while_they_terminate_a_job(service: SandboxService, judge: Judge) -> None:
    visitor = Visitor(service)
    with supervised(service):
        job = visitor.order("# stub: never-ready")
        path = f"/queue/job/{job}"
        wait_until(
            lambda: any(s["step"] == "page" for s in visitor.client.get(path).body["progress"]),
            what="the wait for the page",
        )
        for point in ("create.failed", "drop.network"):
            service.points.arm(point)
        assert visitor.client.post(f"/queue/jobs/{job}/kill").status == 202
        service.points.wait_taken("create.failed")
        assert visitor.client.get(path).body["status"] == JobStatus.TERMINATING
        service.points.wait_taken("drop.network")
        record = visitor.finished(job)
        assert record["status"] == JobStatus.TERMINATED, record
        assert record["result"] == {"message": "Job has been terminated"}
        judge.require_clean(set())


@pytest.mark.fault(row="F11")
def test_a_hung_engine_holds_up_nobody_else(
    service: SandboxService, judge: Judge, docker_engine: DockerEngine, chaos_row: Record
) -> None:
    """dockerd is stopped: databases come and go, sandboxes are 503 in time and made after."""
    resident, visitors = Visitor(service), [Visitor(service) for _ in range(3)]
    number = resident.create()["id"]
    leaving = Visitor(service, "rstudio")
    job_of = {leaving: leaving.order_drop(leaving.create()["id"])}
    leaving.finished(job_of.pop(leaving))
    going = leaving.create()["id"]
    databases = service.client()
    before = _times_of_databases(databases, 2.0)
    docker_engine.pause()
    try:
        job_of |= {visitor: visitor.order() for visitor in visitors}
        job_of[leaving] = leaving.order_drop(going)
        looks = [_timed_look(resident, number) for _ in range(2)]
        during = _times_of_databases(databases, HANG - sum(looks))
    finally:
        docker_engine.resume()
    for visitor, job in job_of.items():
        visitor.finish_well(job)
    chaos_row.note("calls fail after {:.1f} s", max(looks))
    chaos_row.note("databases' p99 {:.1f} times that of the calm", _p99(during) / _p99(before))
    assert max(looks) <= bar(ENGINE_TIMEOUT + 1)
    assert _p99(during) <= 3 * _p99(before) + bar(0.25), (_p99(before), _p99(during))
    for visitor in visitors:
        visitor.promised = {visitor.create()["id"]}
    promised = set().union(resident.promised, *(visitor.promised for visitor in visitors))
    judge.require_clean(promised)


def _timed_look(visitor: Visitor, number: int) -> float:
    start = time.monotonic()
    answer = visitor.client.get(f"/provisioning/docker/{number}")
    assert answer.status == 503, answer
    return time.monotonic() - start


def _times_of_databases(client: Client, seconds: float) -> list[float]:
    """Create and drop databases for a time; return the seconds of each request."""
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        made = client.post("/provisioning/mysql", {"type": "sandbox"})
        middle = time.monotonic()
        assert made.status == 201, made
        gone = client.delete(f"/provisioning/mysql/{made.body['id']}")
        assert gone.status == 200, gone
        times += [middle - start, time.monotonic() - middle]
    return times


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def test_the_judge_sees_what_does_not_fit(
    service: SandboxService, judge: Judge, docker_engine: DockerEngine
) -> None:
    """Without this it could look in the wrong places and find nothing there."""
    visitor = Visitor(service)
    number = visitor.create()["id"]
    client = docker_engine.client()
    (container,) = client.containers.list(filters={"label": f"{_OWNER}={number}"})
    planted = client.containers.create(
        container.image,
        labels={**container.labels, _OWNER: "0"},
        volumes=["/data/out"],
    )
    twin = client.containers.create(container.image, labels=container.labels)
    network = client.networks.create("planted", labels={**container.labels, _OWNER: "0"})
    container.stop(timeout=0)
    try:
        assert judge.flaws({number, NEVER_GIVEN}) == {
            "orphans": ["0 without a row"] * 2,
            "ghosts": [f"row {number} without its container"],
            "double": [f"{number} twice"],
            "lost": [f"{NEVER_GIVEN} was promised"],
        }
        planted.remove()
        assert len(judge.flaws()["volumes"]) == 1
    finally:
        for leftover in (twin, network):
            leftover.remove()
        client.volumes.prune()
    container.start()
    judge.require_clean({number})
