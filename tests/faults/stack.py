"""The service under attack: failpoints for each kind of process, and a supervisor."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from devstack.processes import Process, descendants
from devstack.valkey import Valkey
from provisioning.configuration.servers import url_key
from tests.faults.engines.base import Engine
from tests.support.client import Client
from tests.support.deadlines import DEADLINE, bar, wait_until
from tests.support.service import Service

#: Seconds of a claim and between two sweeps in these tests.
CLAIM, SWEEP = 4, 1
#: Seconds of a claim where processes die all the time, and everybody waits for claims to end.
SHORT_CLAIM = 2
#: Seconds after which nothing may be unfinished any more, if nothing is down: a claim has to
#: run out, perhaps that of the one who took over as well, and sweeps have to notice.
SETTLE = bar(15.0)


class Points:
    """The failpoints of one kind of process: a file in the directory arms a point."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def arm(self, name: str, action: str = "kill") -> None:
        """Let the first process that reaches the point take the action."""
        # Renamed into place, so that nobody reads a file without its text.
        fresh = self.directory / f".arming-{name}"
        fresh.write_text(action)
        fresh.rename(self.directory / name)

    def armed(self, name: str) -> bool:
        return (self.directory / name).exists()

    def wait_taken(self, name: str, timeout: float = DEADLINE) -> None:
        """Wait until a process reached the armed point; raise ``TimeoutError`` if none does."""
        wait_until(lambda: not self.armed(name), timeout=timeout, what=f"failpoint {name} reached")

    def disarm(self) -> None:
        """Take back what nobody has reached."""
        for file in self.directory.iterdir():
            file.unlink(missing_ok=True)


class FaultyService(Service):
    """A service whose fronts and workers can be made to fail at points of their own."""

    def __init__(
        self,
        directory: Path,
        engines: Sequence[Engine],
        *,
        valkey: Valkey,
        state_url: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.engines = engines
        self._starting = threading.Lock()
        self.points = {kind: Points(directory / f"points-{kind}") for kind in ("web", "worker")}
        super().__init__(
            directory,
            valkey=valkey,
            state_url=state_url,
            environment={
                "CLAIM_SECONDS": str(CLAIM),
                "SWEEP_SECONDS": str(SWEEP),
                "RETRY_AFTER_SECONDS": "1",
                **{url_key(engine.backend): engine.url for engine in engines},
                **(environment or {}),
            },
        )

    def start(self, *, fronts: int = 1, workers: int = 1, beats: int = 1, dockers: int = 0) -> None:
        """Start all processes side by side: some tests need a dozen of them."""
        with ThreadPoolExecutor(max_workers=max(fronts, 1)) as executor:
            started = [executor.submit(self.start_front) for _ in range(fronts)]
            super().start(fronts=0, workers=workers, beats=beats, dockers=dockers)
            for front in started:
                front.result()

    def _start(self, kind: str, extra: dict[str, str]) -> Process:
        # The names of processes are numbered.
        with self._starting:
            return super()._start(kind, extra)

    def _run(self, process: Process, kind: str, extra: dict[str, str]) -> None:
        points = self.points.get(kind)
        own = {"PROVISIONING_FAILPOINTS": str(points.directory)} if points else {}
        super()._run(process, kind, {**extra, **own})

    def front_child(self, front: int = 0) -> int:
        """Return the process that runs the code of a front, below the one that respawns it."""
        return wait_until(lambda: descendants(self.fronts[front].pid), what="a front's child")[-1]

    def answers(self, front: int = 0) -> bool:
        """Return whether a front is ready."""
        return self._is_ready(self.port(front))

    def port(self, front: int = 0) -> int:
        return self._ports[self.fronts[front]].number

    def impatient_client(self, token: str, *, front: int = 0, timeout: float = DEADLINE) -> Client:
        """Return a client that gives up on an answer after ``timeout`` seconds."""
        return Client(self.port(front), token, timeout=timeout)


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped by a signal."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def wait_stopped(pid: int, point: str) -> None:
    wait_until(lambda: is_stopped(pid), what=f"a process paused at {point}")


class Supervisor:
    """Starts fronts and workers that have ended again, as an init system does.

    A front replaces a child that dies by itself; a worker that dies is gone.
    """

    def __init__(self, service: FaultyService) -> None:
        self._service = service
        self._done = threading.Event()
        self._threads: list[threading.Thread] = []
        self.restarts = 0
        self.problems: list[BaseException] = []

    def start(self) -> None:
        for process in (*self._service.fronts, *self._service.workers):
            thread = threading.Thread(target=self._watch, args=(process,))
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()
        assert not self.problems, self.problems

    def _watch(self, process: Process) -> None:
        while True:
            stopping = self._done.wait(0.05)
            if process.running:
                if stopping:
                    return
                continue
            # Also when stopping: who died of the last kill belongs to the whole that is left.
            try:
                self._service.restart(process)
                self.restarts += 1
            except TimeoutError:
                # It was killed again before it was ready.
                continue
            except BaseException as problem:
                self.problems.append(problem)
                raise


@contextmanager
def supervised(service: FaultyService) -> Iterator[Supervisor]:
    """Keep a service's processes running for a block."""
    supervisor = Supervisor(service)
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
