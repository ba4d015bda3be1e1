"""One engine hangs: it accepts connections and never answers."""

import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devstack.valkey import Valkey
from tests.faults.callers import Caller, Ledger
from tests.faults.conftest import BACKENDS, TIMEOUT
from tests.faults.engines.base import ADMIN, ADMIN_PASSWORD, Engine
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.oracle import Oracle
from tests.faults.pace import Hammer, Paced, Timings, keep_pace
from tests.faults.record import Record
from tests.faults.stack import FaultyService
from tests.support.client import Answer
from tests.support.deadlines import TEST_DEADLINE, bar, wait_until
from tests.support.service import running

pytestmark = pytest.mark.fault(row="F10")

#: Seconds after its release within which an engine is used again.
RECOVERY = bar(10.0)
#: Seconds within which work that was delayed is done: pauses double up to it.
RETRIES = bar(30.0)

Request = tuple[Caller, str, str]


def send(service: FaultyService, request: Request) -> tuple[Answer, float]:
    """Send a request and return its answer with the seconds that it took."""
    caller, method, path = request
    client = service.impatient_client(caller.token, front=caller.front)
    start = time.monotonic()
    answer = client(method, path, {"type": "sandbox"} if path == caller.path else None)
    return answer, time.monotonic() - start


def wait_served(service: FaultyService, caller: Caller) -> float:
    """Wait until the caller gets its credential; return the seconds it took."""
    start = time.monotonic()
    wait_until(
        lambda: send(service, (caller, "POST", caller.path))[0].status == 201,
        timeout=RECOVERY,
        what="recovery",
    )
    return time.monotonic() - start


def test_calls_to_hung_servers_fail_at_their_deadline(
    exposed: FaultyService, breakable: dict[str, Engine], ledger: Ledger, chaos_row: Record
) -> None:
    """All of them hang at once, and one has to wait for none of the others."""
    extends: dict[str, Request] = {}
    others: dict[str, list[Request]] = {}
    for front, backend in enumerate(BACKENDS):
        callers = [Caller(exposed, ledger, backend=backend, front=front) for _ in range(5)]
        owned = [f"{one.path}/{one.create()['id']}" for one in callers[:4]]
        extends[backend] = (callers[0], "POST", f"{owned[0]}/extend")
        others[backend] = [
            (callers[1], "GET", owned[1]),
            (callers[2], "POST", f"{owned[2]}/kill"),
            (callers[3], "DELETE", owned[3]),
            (callers[4], "POST", callers[4].path),
        ]
    for engine in breakable.values():
        engine.hang()
    try:
        # Before the others, since it may need the server twice: nothing opens the circuit then.
        extended = send_all(exposed, {backend: [one] for backend, one in extends.items()})
        answers = send_all(exposed, others)
    finally:
        for engine in breakable.values():
            engine.release()
    for backend in BACKENDS:
        recovered = wait_served(exposed, others[backend][3][0])
        ((extension, seconds),) = extended[backend]
        taken = [seconds, *(one for _, one in answers[backend])]
        print(f"\n{backend}: {[round(one, 2) for one in taken]} s, back after {recovered:.1f} s")
        chaos_row.note("calls fail after {:.1f} s", max(taken))
        chaos_row.note("engines are used {:.1f} s after their release", recovered)
        # MySQL's passwords have no end of their own, so an extend does not need the server.
        assert extension.status == (200 if backend == "mysql" else 503), extension
        assert {answer.status for answer, _ in answers[backend]} == {503}
        assert max(taken) <= bar(TIMEOUT + 1)
    Oracle(exposed, ledger).assert_clean(timeout=RETRIES)


def send_all(
    service: FaultyService, requests: dict[str, list[Request]]
) -> dict[str, list[tuple[Answer, float]]]:
    """Send all requests at once and return their answers and times, by backend."""
    with ThreadPoolExecutor(max_workers=sum(map(len, requests.values()))) as executor:
        sent = {
            backend: [executor.submit(send, service, one) for one in them]
            for backend, them in requests.items()
        }
        return {backend: [one.result() for one in them] for backend, them in sent.items()}


# Beside a hung engine -------------------------------------------------------------------

#: How often calm and hang are compared, and the seconds of each.
ROUNDS = int(os.environ.get("HUNG_ROUNDS", "3"))
SECONDS = float(os.environ.get("HUNG_SECONDS", "2"))
#: Clients of the engine that hangs: more than a front has threads, each with a pause.
CROWD, PAUSE = 24, 1.0
#: Clients of the others, and the seconds from one request of each to its next.
CLIENTS = {"mysql": 8, "snowflake": 4}
INTERVAL = 0.4
#: The others' p99 may be this many times that of the calm before.
BAR = 1.2
#: Seconds that it may be above the bar. Of some dozen requests in a round it is about the
#: slowest, which on a machine with other work varies by more than a fifth by itself. Without
#: the protection it waits for the hung engine's deadline, twice as long as this.
SLACK = TIMEOUT / 2


@dataclass
class Comparison:
    """What one engine's clients waited in the calms and in the hangs, by rounds."""

    calm: list[Timings] = field(default_factory=list)
    hung: list[Timings] = field(default_factory=list)

    def rounds(self) -> list[tuple[float, float]]:
        return [(a.p99(), b.p99()) for a, b in zip(self.calm, self.hung, strict=True)]

    def ratio(self) -> float:
        return statistics.median(hung / calm for calm, hung in self.rounds())

    def excess(self) -> float:
        """Return the seconds above the bar."""
        return statistics.median(hung - BAR * calm for calm, hung in self.rounds())

    def __str__(self) -> str:
        shown = ", ".join(f"{calm * 1000:.0f}/{hung * 1000:.0f}" for calm, hung in self.rounds())
        count = sum(len(one.seconds) for one in self.hung)
        return f"p99 calm/hung {shown} ms of {count} requests, median ratio {self.ratio():.2f}"


@pytest.mark.timeout(TEST_DEADLINE + ROUNDS * (2 * SECONDS + RECOVERY))
def test_a_hung_postgresql_slows_neither_mysql_nor_snowflake(
    exposed: FaultyService, breakable: dict[str, Engine], ledger: Ledger, chaos_row: Record
) -> None:
    engine = breakable["postgresql"]
    clients = [
        Paced(exposed, ledger, breakable[backend], INTERVAL)
        for backend, count in CLIENTS.items()
        for _ in range(count)
    ]
    owners = [Caller(exposed, ledger, backend="postgresql") for _ in range(CROWD)]
    for owner in owners:
        owner.create()
    results = {backend: Comparison() for backend in CLIENTS}
    recoveries = []
    with Hammer(exposed, owners, pause=PAUSE) as hammer:
        for _ in range(ROUNDS):
            for backend, timings in keep_pace(clients, SECONDS).items():
                results[backend].calm.append(timings)
            engine.hang()
            try:
                for backend, timings in keep_pace(clients, SECONDS).items():
                    results[backend].hung.append(timings)
            finally:
                engine.release()
            recoveries.append(wait_served(exposed, owners[0]))
    print(f"\nPostgreSQL: {hammer}, recovered in {[round(one, 1) for one in recoveries]} s")
    for backend, result in results.items():
        print(f"{backend}: {result}")
        chaos_row.note("others' p99 {:.2f} times that of the calm", result.ratio())
        assert not [bad for one in (*result.calm, *result.hung) for bad in one.bad]
        assert result.ratio() <= BAR or result.excess() <= SLACK
    assert hammer.statuses[503] > 0
    assert hammer.slowest <= bar(TIMEOUT + 1)
    chaos_row.rounds = ROUNDS
    Oracle(exposed, ledger).assert_clean(timeout=RETRIES)


# One of two servers of a backend --------------------------------------------------------


class Pair:
    """A service over two MySQL servers, and a credential on each."""

    def __init__(self, service: FaultyService, ledger: Ledger) -> None:
        self.service = service
        self.callers: dict[str, Caller] = {}
        ports = {engine.server.port: engine.name for engine in service.engines}
        for _ in range(10):
            caller = Caller(service, ledger)
            body = caller.create()
            name = ports[body["credentials"]["port"]]
            if name in self.callers:
                caller.drop(body["id"])
            self.callers.setdefault(name, caller)
        assert set(self.callers) == set(ports.values())

    def read(self, name: str) -> tuple[int, float]:
        """Read the credential on a server; return the status and the seconds it took."""
        caller = self.callers[name]
        answer, seconds = send(self.service, (caller, "GET", f"{caller.path}?type=sandbox"))
        return answer.status, seconds


@pytest.fixture
def pair(
    service_directory: Path,
    mysql: MySQLEngine,
    breakable: dict[str, Engine],
    valkey: Valkey,
    ledger: Ledger,
) -> Iterator[Pair]:
    hanging = breakable["mysql"]
    assert isinstance(hanging, MySQLEngine)
    engines = [
        MySQLEngine(mysql.mariadb, name="steady"),
        MySQLEngine(hanging.mariadb, name="hanging"),
    ]
    service_directory.mkdir()
    file = service_directory / "servers.toml"
    file.write_text(
        "\n".join(
            f'[[mysql]]\nname = "{engine.name}"\nhost = "{engine.server.host}"\n'
            f'port = {engine.server.port}\nuser = "{ADMIN}"\npassword = "{ADMIN_PASSWORD}"\n'
            for engine in engines
        )
    )
    service = FaultyService(
        service_directory,
        engines,
        valkey=valkey,
        environment={
            "MYSQL_URL": "",
            "SERVERS_FILE": str(file),
            "ENGINE_TIMEOUT_SECONDS": str(TIMEOUT),
        },
    )
    with running(service):
        yield Pair(service, ledger)


def test_a_hung_server_leaves_the_other_one_of_its_backend_to_work(
    pair: Pair, breakable: dict[str, Engine], ledger: Ledger
) -> None:
    """Placement does not know that the server hangs, so one of two creates meets it."""
    callers = [Caller(pair.service, ledger) for _ in range(2)]
    breakable["mysql"].hang()
    try:
        creates = [send(pair.service, (caller, "POST", caller.path)) for caller in callers]
        with ThreadPoolExecutor(max_workers=6) as executor:
            waiting = [executor.submit(pair.read, "hanging") for _ in range(6)]
            during = [pair.read("steady") for _ in range(30)]
            hung = [one.result() for one in waiting]
    finally:
        breakable["mysql"].release()
    assert sorted(answer.status for answer, _ in creates) == [201, 503]
    assert {status for status, _ in hung} == {503}
    assert {status for status, _ in during} == {200}
    assert max(seconds for _, seconds in (*creates, *hung)) <= bar(TIMEOUT + 1)
    assert max(seconds for _, seconds in during) < TIMEOUT
    for caller in (*pair.callers.values(), *callers):
        wait_served(pair.service, caller)
    Oracle(pair.service, ledger).assert_clean(timeout=RETRIES)
