"""Sandboxes under attack: their workers, the callers, and the judge of what is left."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from devstack import images
from devstack.docker import DockerEngine
from devstack.mariadb import MariaDB
from devstack.processes import Process
from devstack.valkey import Valkey
from provisioning.state.enums import UNFINISHED_JOBS, CredentialsState
from provisioning.state.models import Credentials, Job
from tests.faults.record import Record
from tests.faults.stack import Points
from tests.support.client import Client
from tests.support.deadlines import CROWD_DEADLINE, bar, wait_until
from tests.support.docker_engine import remove_all_but_images
from tests.support.sandboxes import docker_url, page
from tests.support.service import Service

ASYNC = "/provisioning/async/docker"
#: A stub that has an anonymous volume, which has to go with its sandbox.
WITH_VOLUME = "provisioning/sandbox-with-volume"
#: Seconds in which everything is done once nothing is killed any more.
SETTLED = bar(30.0)
_COUNTERS = {"volumes": "orphans"}


class SandboxService(Service):
    """A service whose workers of sandboxes can be killed at the points of their work."""

    def __init__(
        self, directory: Path, *, mariadb: MariaDB, valkey: Valkey, environment: Mapping[str, str]
    ) -> None:
        self.points = Points(directory / "points")
        super().__init__(directory, mariadb=mariadb, valkey=valkey, environment=environment)

    def _run(self, process: Process, kind: str, extra: dict[str, str]) -> None:
        own = {"PROVISIONING_FAILPOINTS": str(self.points.directory)} if kind == "docker" else {}
        super()._run(process, kind, {**extra, **own})

    def revive(self) -> int:
        """Start the workers of sandboxes that have ended again; return how many those were."""
        ended = [process for process in self.dockers if not process.running]
        for process in ended:
            self.restart(process)
        return len(ended)


def environment_of(engine: DockerEngine) -> dict[str, str]:
    """Return the settings of a service with sandboxes; one of their types has a volume."""
    remove_all_but_images(engine)
    client = engine.client()
    container = client.containers.create(images.STUB.tag)
    container.commit(WITH_VOLUME, "local", changes="VOLUME /data/out")
    container.remove()
    options = {"rstudio_image": f"{WITH_VOLUME}:local", "memory_mb": 128, "ready_seconds": 30}
    return {
        "DOCKER_URL": docker_url(engine, **options),
        "ENGINE_TIMEOUT_SECONDS": "3",
        "CLAIM_SECONDS": "2",
    }


@contextmanager
def supervised(service: SandboxService) -> Iterator[list[int]]:
    """Start workers that end again during a block, as an init system does; count the starts."""
    starts: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            if ended := service.revive():
                starts.append(ended)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield starts
    finally:
        done.set()
        thread.join()


# Callers --------------------------------------------------------------------------------


class Visitor:
    """A caller with a token of its own; ``promised`` are the sandboxes it may rely on."""

    def __init__(self, service: Service, type_: str = "jupyter") -> None:
        self.client: Client = service.client()
        self.type = type_
        self.promised: set[int] = set()

    def order(self, script: str = "") -> int:
        """Ask for a sandbox and return the job."""
        answer = self.client.post(ASYNC, {"type": self.type, "script": script})
        assert answer.status == 202, answer
        return int(answer.body["id"])

    def order_drop(self, number: int) -> int:
        """Ask for the end of a sandbox and return the job."""
        self.promised.discard(number)
        answer = self.client.delete(f"{ASYNC}/{number}")
        assert answer.status == 200, answer
        return int(answer.body["id"])

    def finished(self, job: int) -> dict[str, Any]:
        """Return the record of a job once it is finished."""
        end = time.monotonic() + CROWD_DEADLINE
        while True:
            answer = self.client.get(f"/queue/job/{job}?wait=30")
            assert answer.status == 200, answer
            record: dict[str, Any] = answer.body
            if record["isFinished"]:
                return record
            assert time.monotonic() < end, record

    def finish_well(self, job: int) -> dict[str, Any]:
        record = self.finished(job)
        assert record["status"] == "success", record
        return record

    def create(self) -> dict[str, Any]:
        """Make a sandbox, log in to it, and return its credentials."""
        record = self.finish_well(self.order())
        credentials: dict[str, Any] = record["result"]["credentials"]
        self.promised.add(credentials["id"])
        assert page(credentials) == 200
        assert page(credentials, "/login", credentials["password"]) == 200
        return credentials

    def drop(self, number: int) -> None:
        self.finish_well(self.order_drop(number))

    def kill_job(self, job: int) -> str:
        """Kill a job and return how it ended."""
        answer = self.client.post(f"/queue/jobs/{job}/kill")
        # The job may have ended at the same moment.
        assert answer.status in (202, 400), answer
        return str(self.finished(job)["status"])


def come_and_go(visitor: Visitor) -> None:
    """Create a sandbox, use it, drop it."""
    number = visitor.create()["id"]
    answer = visitor.client.get(f"/provisioning/docker/{number}")
    assert answer.status == 200, answer
    visitor.drop(number)


def fail(visitor: Visitor) -> None:
    """Ask for a sandbox whose program ends at once."""
    record = visitor.finished(visitor.order("# stub: exits"))
    assert record["status"] == "error" and record["error"] == "user", record


def think_better(visitor: Visitor) -> None:
    """Kill a creation in the middle, then a removal."""
    job = visitor.order("# stub: never-ready")
    time.sleep(random.uniform(0, 0.5))
    assert visitor.kill_job(job) in ("cancelled", "terminated")
    number = visitor.create()["id"]
    if visitor.kill_job(visitor.order_drop(number)) == "cancelled":
        visitor.drop(number)


@dataclass
class Traffic:
    """Callers that do one thing again and again while a block runs."""

    problems: list[str] = field(default_factory=list)
    cycles: int = 0

    @contextmanager
    def flowing(self, *habits: tuple[Visitor, Callable[[Visitor], None]]) -> Iterator[None]:
        done = threading.Event()
        threads = [threading.Thread(target=self._repeat, args=(done, *habit)) for habit in habits]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join()

    def _repeat(
        self, done: threading.Event, visitor: Visitor, habit: Callable[[Visitor], None]
    ) -> None:
        while not done.is_set():
            try:
                habit(visitor)
            except Exception as problem:
                self.problems.append(f"{habit.__name__}: {problem!r}")
                return
            self.cycles += 1


# The judge ------------------------------------------------------------------------------


class Judge:
    """Compares what an engine has of an installation with the rows, both ways."""

    def __init__(self, service: Service, engine: DockerEngine, record: Record) -> None:
        self._record = record
        self._database = service.installation.database
        self._code = service.installation.code
        self._client = engine.client()
        #: Other tests use the engine as well, and volumes have no label.
        self._volumes = self._loose_volumes()

    def unfinished(self) -> list[str]:
        """Return the jobs and rows that somebody has still to work on."""
        jobs = select(Job).where(Job.status.in_(UNFINISHED_JOBS))
        rows = select(Credentials).where(
            Credentials.state.in_((CredentialsState.CREATING, CredentialsState.DROPPING))
        )
        with self._database.read() as session:
            return [
                *(f"job {job.id} {job.command} {job.status}" for job in session.scalars(jobs)),
                *(f"row {row.id} {row.state}: {row.failure}" for row in session.scalars(rows)),
            ]

    def require_clean(self, promised: set[int]) -> None:
        """Wait until nothing is under way; fail if anything is amiss."""
        wait_until(lambda: not self.unfinished(), timeout=SETTLED, what="the end of all work")
        flaws = self.flaws(promised)
        # A volume that nobody uses is an orphan.
        self._record.found({_COUNTERS.get(k, k): len(cases) for k, cases in flaws.items()})
        assert flaws == {}

    def flaws(self, promised: set[int] | None = None) -> dict[str, list[str]]:
        """Return what does not fit, by its kind; an empty dictionary is a clean slate.

        ``promised`` are the sandboxes that callers got and did not drop.
        """
        active = self._active()
        running, containers, networks = self._objects()
        found = [*containers, *networks]
        flaws = {
            "orphans": [f"{n} without a row" for n in found if n not in active],
            "ghosts": [
                f"row {n} without its container"
                for n in active
                if n not in running or n not in networks
            ],
            "double": [
                f"{n} twice"
                for names in (containers, networks)
                for n in set(names)
                if names.count(n) > 1
            ],
            "lost": [f"{n} was promised" for n in (promised or set()) if n not in active],
            "volumes": sorted(self._loose_volumes() - self._volumes),
            "zombies": self.unfinished(),
        }
        return {kind: cases for kind, cases in flaws.items() if cases}

    def _active(self) -> set[int]:
        query = select(Credentials.id).where(Credentials.state == CredentialsState.ACTIVE)
        with self._database.read() as session:
            return set(session.scalars(query))

    def _objects(self) -> tuple[set[int], list[int], list[int]]:
        """Return whose containers run, whose containers are there, and whose networks."""
        ours = {"label": f"provisioning.instance={self._code}"}
        containers = self._client.containers.list(all=True, filters=ours)
        networks = self._client.networks.list(filters=ours)
        running = {_owner(c.labels) for c in containers if c.status == "running"}
        return (
            running,
            [_owner(container.labels) for container in containers],
            [_owner(network.attrs["Labels"]) for network in networks],
        )

    def _loose_volumes(self) -> set[str]:
        return {v.name for v in self._client.volumes.list(filters={"dangling": True})}


def _owner(labels: Mapping[str, str]) -> int:
    return int(labels["provisioning.credentials"])
