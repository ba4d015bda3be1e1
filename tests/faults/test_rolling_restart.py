"""Fronts and workers restart one after another behind a load balancer: no request fails."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devstack.executables import find_program
from devstack.processes import Process
from devstack.valkey import Valkey
from tests.faults.callers import Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.record import Record
from tests.faults.stack import FaultyService
from tests.support.client import Answer, Client
from tests.support.deadlines import DEADLINE, bar, wait_until
from tests.support.load_balancers import balancing
from tests.support.service import running

CLIENTS = 8
#: Seconds for which a stopping front goes on accepting: as short as HAProxy's checks allow.
DRAIN = 2
#: Seconds that a job may wait meanwhile.
LONGEST_JOB = bar(10.0)


class TwoProcesses(FaultyService):
    """Each front has two processes, which share their socket."""

    def _run(self, process: Process, kind: str, extra: dict[str, str]) -> None:
        super()._run(process, kind, {**extra, "WEB_PROCESSES": "2"})


@pytest.fixture(scope="module")
def rolling(
    tmp_path_factory: pytest.TempPathFactory, mysql: MySQLEngine, valkey: Valkey
) -> Iterator[FaultyService]:
    service = TwoProcesses(
        tmp_path_factory.mktemp("rolling"),
        [mysql],
        valkey=valkey,
        environment={"DRAIN_SECONDS": str(DRAIN)},
    )
    with running(service, fronts=2, workers=2):
        yield service


@pytest.mark.fault(row="F27")
@pytest.mark.parametrize("program", ["nginx", "haproxy"])
def test_no_request_fails_while_all_processes_restart_in_turn(
    rolling: FaultyService, program: str, ledger: Ledger, tmp_path: Path, chaos_row: Record
) -> None:
    if find_program(program) is None:
        pytest.skip(f"{program} is not installed: apt-get install {program}")
    stopped = threading.Event()
    fronts = [rolling.port(front) for front in (0, 1)]
    with (
        balancing(program, fronts, tmp_path / program) as port,
        ThreadPoolExecutor(CLIENTS) as executor,
    ):
        try:
            callers = [
                _BehindBalancer(Client(port, rolling.token(), timeout=DEADLINE), ledger, stopped)
                for _ in range(CLIENTS)
            ]
            done = [executor.submit(caller.live) for caller in callers]
            _wait_more(callers)
            for process in (*rolling.fronts, *rolling.workers):
                process.stop()
                rolling.restart(process)
                _wait_more(callers)
        finally:
            stopped.set()
        for future in done:
            future.result()
    failures = [failure for caller in callers for failure in caller.failures]
    assert not failures
    longest = max(caller.longest for caller in callers)
    assert longest < LONGEST_JOB
    chaos_row.note("longest delete {:.1f} s", longest)
    chaos_row.note("{:.0f} requests", sum(caller.answered for caller in callers))
    Oracle(rolling, ledger).assert_clean()


def test_a_stopping_front_is_not_ready_but_answers(rolling: FaultyService) -> None:
    front = rolling.fronts[0]
    client = rolling.client()
    stop = threading.Thread(target=front.stop)
    stop.start()
    try:
        wait_until(lambda: client.get("/health/ready").status == 503, what="not ready")
        answer = client.get("/health/ready")
        assert answer.body["message"] == "the process was told to stop"
        assert client.post("/provisioning/mysql", {"type": "sandbox"}).status == 201
        stopping = client.get("/health/live")
        assert (stopping.status, stopping.headers["Connection"]) == (200, "close")
    finally:
        stop.join()
        rolling.restart(front)


class _BehindBalancer:
    """A caller that creates, reads and drops, and repeats nothing."""

    def __init__(self, client: Client, ledger: Ledger, stopped: threading.Event) -> None:
        self._client, self._ledger, self._stopped = client, ledger, stopped
        self.failures: list[str] = []
        self.answered = 0
        #: Seconds of the slowest delete.
        self.longest = 0.0

    def live(self) -> None:
        while not self._stopped.wait(0.05):
            created = self._ask("POST", "/provisioning/mysql", {"type": "sandbox"})
            if created is None:
                continue
            self._ledger.created(self._client.token or "", created.body)
            path = f"/provisioning/mysql/{created.body['id']}"
            self._ask("GET", path)
            self._ledger.leaving(created.body["id"])
            start = time.monotonic()
            dropped = self._ask("DELETE", path)
            if dropped is not None and dropped.status == 202:
                self._wait_for(dropped.body["id"])
            self._ledger.deleted(created.body["id"])
            self.longest = max(self.longest, time.monotonic() - start)

    def _wait_for(self, job: int) -> None:
        """The front stopped before the job ended."""
        wait_until(lambda: self._ended(job), what=f"the end of job {job}")

    def _ended(self, job: int) -> bool:
        answer = self._ask("GET", f"/queue/job/{job}")
        return answer is not None and answer.body["status"] == "success"

    def _ask(self, method: str, path: str, body: object = None) -> Answer | None:
        try:
            answer = self._client(method, path, body)
        except OSError as problem:
            self.failures.append(f"{method} {path}: {problem!r}")
            return None
        if answer.status >= 300:
            self.failures.append(f"{method} {path}: {answer.status} {answer.text}")
            return None
        self.answered += 1
        return answer


def _wait_more(callers: list[_BehindBalancer]) -> None:
    """Wait until each of the callers has got some more answers, or one a failure."""
    before = [caller.answered for caller in callers]
    wait_until(
        lambda: (
            any(caller.failures for caller in callers)
            or all(
                caller.answered > count + 3 for caller, count in zip(callers, before, strict=True)
            )
        ),
        what="more answers",
    )
