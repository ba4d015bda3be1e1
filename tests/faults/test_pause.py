"""Processes that are paused in the middle of a step for longer than their claim.

Another process finishes the work meanwhile, and perhaps the owner has undone it since. The
paused one wakes up believing that the work is its own, and must change nothing.
"""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from devstack.postgres import Postgres
from devstack.valkey import Valkey
from provisioning.configuration.secrets import Secret
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials
from tests.faults.callers import Caller, Ledger
from tests.faults.engines.mysql import MySQLEngine
from tests.faults.messages import Messages
from tests.faults.oracle import Oracle
from tests.faults.rows import picture
from tests.faults.stack import FaultyService, is_stopped, wait_stopped
from tests.support.client import Answer
from tests.support.deadlines import DEADLINE, bar, wait_until
from tests.support.servers import connect_as, postgres_state_url
from tests.support.service import running

pytestmark = pytest.mark.fault(row="F12")

#: Where a front can stop with its work not done.
BEFORE_THE_END = ("create.intent", *MySQLEngine.create)
#: Tries to stop a process in the middle of a step.
ATTEMPTS = 20
#: Drops that a worker is stopped in; the points that both types share are met in one of them.
DROPS = (
    ("sandbox", "delete.claimed"),
    ("sandbox", "drop.revoked"),
    ("sandbox", "drop.login"),
    ("sandbox", "drop.database"),
    ("transformations", "drop.locked"),
    ("transformations", "drop.sessions"),
    ("transformations", "drop.checked"),
)
#: The front that is never paused.
HEALTHY = len(BEFORE_THE_END)


@pytest.fixture(scope="module")
def paused(
    tmp_path_factory: pytest.TempPathFactory,
    mysql: MySQLEngine,
    valkey: Valkey,
    postgres: Postgres,
) -> Iterator[FaultyService]:
    """A front for every point of a creation, and one more that goes on; on PostgreSQL."""
    service = FaultyService(
        tmp_path_factory.mktemp("paused"),
        [mysql],
        valkey=valkey,
        state_url=postgres_state_url(postgres, "paused"),
    )
    with running(service, fronts=len(BEFORE_THE_END) + 1):
        yield service


@pytest.fixture
def paused_oracle(paused: FaultyService, mysql: MySQLEngine, ledger: Ledger) -> Oracle:
    return Oracle(paused, ledger)


def is_unfinished(service: FaultyService, token: str, state: CredentialsState) -> bool:
    """Return whether the token has a credential in the state."""
    token_id = service.installation.tokens.verify(Secret(token)).token_id
    query = select(Credentials.id).where(
        Credentials.token_id == token_id, Credentials.state == state
    )
    with service.installation.database.read() as session:
        return session.scalars(query).first() is not None


def until_in_time(pause: Callable[[], bool], point: str) -> None:
    """Repeat until the pause lands before the step is over.

    The signal is for the whole process, and the thread at the point may run on for a moment.
    """
    assert any(pause() for _ in range(ATTEMPTS)), f"the pause at {point} always came too late"


class PausedCreations:
    """One creation for each point of a front, each stopped there, with its caller waiting."""

    def __init__(self, service: FaultyService, type_: str) -> None:
        self._service, self._type = service, type_
        self._executor = ThreadPoolExecutor(max_workers=2 * len(BEFORE_THE_END))
        self.tokens: list[str] = []
        self.answers: list[Future[Answer]] = []
        self._children: list[int] = []
        for number, point in enumerate(BEFORE_THE_END):
            until_in_time(partial(self._pause, number, point), point)

    def _pause(self, front: int, point: str) -> bool:
        child = self._service.front_child(front)
        token = self._service.token(person=f"p{front}")
        client = self._service.impatient_client(token, front=front)
        self._service.points["web"].arm(point, "pause")
        answer = self._executor.submit(client.post, "/provisioning/mysql", {"type": self._type})
        wait_stopped(child, point)
        if not is_unfinished(self._service, token, CredentialsState.CREATING):
            os.kill(child, signal.SIGCONT)
            answer.result(timeout=DEADLINE)
            return False
        self.tokens.append(token)
        self.answers.append(answer)
        self._children.append(child)
        return True

    def resume(self) -> list[Answer]:
        """Let all go on and return what their callers are told, in the order of the points."""
        for child in self._children:
            os.kill(child, signal.SIGCONT)
        return [answer.result(timeout=DEADLINE) for answer in self.answers]


@contextmanager
def creations_paused(service: FaultyService, type_: str) -> Iterator[PausedCreations]:
    try:
        yield PausedCreations(service, type_)
    finally:
        service.points["web"].disarm()
        for front in service.fronts:
            front.resume()


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
def test_a_creation_that_another_finished_is_not_touched(
    paused: FaultyService, paused_oracle: Oracle, ledger: Ledger, type_: str
) -> None:
    with creations_paused(paused, type_) as creations:
        callers = [Caller(paused, ledger, token=token, front=HEALTHY) for token in creations.tokens]
        # The fronts' turn comes from the callers' repeats, or else from the sweep.
        bodies = [caller.create(type_) for caller in callers[::2]]
        assert paused_oracle.settle()
        before = picture(paused_oracle)
        answers = creations.resume()
        assert picture(paused_oracle) == before
    assert [answer.status for answer in answers] == [201] * len(answers)
    for answer, caller in zip(answers, callers, strict=True):
        ledger.created(caller.token, answer.body)
    assert [answer.body["id"] for answer in answers[::2]] == [body["id"] for body in bodies]
    paused_oracle.assert_clean()


def test_a_creation_that_was_dropped_meanwhile_is_not_made_again(
    paused: FaultyService, paused_oracle: Oracle, ledger: Ledger
) -> None:
    """The late front finds its row gone, and serves its caller's request anew."""
    with creations_paused(paused, "transformations") as creations:
        callers = [Caller(paused, ledger, token=token, front=HEALTHY) for token in creations.tokens]
        dropped = []
        for caller in callers:
            body = caller.create("transformations")
            caller.drop(body["id"])
            dropped.append(body["id"])
        assert paused_oracle.settle()
        answers = creations.resume()
    for answer, caller, gone in zip(answers, callers, dropped, strict=True):
        assert answer.status == 201, answer
        # The last point lies behind the creation: that front reports what it made.
        assert answer.body["id"] != gone
        ledger.created(caller.token, answer.body)
        connect_as(answer.body["credentials"]).close()
    paused_oracle.assert_clean()


def test_a_transaction_of_a_paused_process_holds_up_nobody(
    paused: FaultyService, paused_oracle: Oracle, ledger: Ledger
) -> None:
    """It holds locks in the state database: of a slot, of the numbers of jobs, of a job."""
    going, coming, leaving = (
        Caller(paused, ledger, front=HEALTHY, patience=bar(15)) for _ in range(3)
    )
    bodies = [caller.create() for caller in (going, leaving)]
    stopped = [
        _pause_in_transaction(paused, 0, coming, "POST", "", "create.recording"),
        _pause_in_transaction(paused, 1, going, "DELETE", bodies[0]["id"], "delete.recording"),
    ]
    try:
        connect_as(coming.create()["credentials"]).close()
        going.drop(bodies[0]["id"])
        stopped.append(paused.workers[0].pid)
        paused.points["worker"].arm("delete.claiming", "pause")
        job = leaving.drop_later(bodies[1]["id"])
        assert job is not None
        wait_stopped(stopped[-1], "delete.claiming")
        paused.start_worker()
        assert leaving.wait_for_job(job)["status"] == "success"
        ledger.deleted(bodies[1]["id"])
        assert paused_oracle.settle(), paused_oracle.unfinished()
        before = picture(paused_oracle)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: paused.answers(0) and paused.answers(1), what="awake fronts")
    assert picture(paused_oracle) == before
    paused_oracle.assert_clean()


def _pause_in_transaction(
    service: FaultyService, front: int, caller: Caller, method: str, id_: str, point: str
) -> int:
    """Stop a front inside a transaction of a request whose client goes away."""
    child = service.front_child(front)
    service.points["web"].arm(point, "pause")
    client = service.impatient_client(caller.token, front=front, timeout=0.5)
    body = {"type": "sandbox"} if method == "POST" else None
    with suppress(OSError):
        client(method, f"/provisioning/mysql/{id_}".rstrip("/"), body)
    wait_stopped(child, point)
    return child


def test_a_drop_that_another_finished_spares_what_was_made_since(
    service_directory: Path,
    mysql: MySQLEngine,
    valkey: Valkey,
    postgres: Postgres,
    ledger: Ledger,
) -> None:
    """Since then the person has a new sandbox, with a login of the same name."""
    state_url = postgres_state_url(postgres, "late_drops")
    service = FaultyService(service_directory, [mysql], valkey=valkey, state_url=state_url)
    oracle = Oracle(service, ledger)
    # Nothing sweeps before all are stopped, or they would take over from each other.
    with running(service, workers=len(DROPS), beats=0):
        drops = PausedDrops(service, ledger)
        service.start_worker()
        service.start_beat()
        assert oracle.settle(), oracle.unfinished()
        for caller, type_ in drops.callers:
            connect_as(caller.create(type_)["credentials"]).close()
        before = picture(oracle)
        drops.resume()
        wait_until(
            lambda: service.logs().count("claim_lost") >= len(DROPS),
            what="the late workers noticing it",
        )
        assert picture(oracle) == before
        oracle.assert_clean()


class PausedDrops:
    """One drop for each of `DROPS`, each with a worker that is stopped in it."""

    def __init__(self, service: FaultyService, ledger: Ledger) -> None:
        self._service, self._ledger = service, ledger
        self._messages = Messages(service)
        self._stopped: set[int] = set()
        self.callers: list[tuple[Caller, str]] = []
        for number, (type_, point) in enumerate(DROPS):
            caller = Caller(service, ledger, person=f"p{number}")
            self.callers.append((caller, type_))
            until_in_time(partial(self._pause, caller, type_, point), point)

    def _pause(self, caller: Caller, type_: str, point: str) -> bool:
        body = caller.create(type_)
        self._service.points["worker"].arm(point, "pause")
        job = caller.drop_later(body["id"])
        assert job is not None
        worker = self._wait_stopped(job, point)
        self._ledger.deleted(body["id"])
        if is_unfinished(self._service, caller.token, CredentialsState.DROPPING):
            self._stopped.add(worker)
            return True
        os.kill(worker, signal.SIGCONT)
        return False

    def _wait_stopped(self, job: int, point: str) -> int:
        def newly_stopped() -> list[int]:
            pids = {worker.pid for worker in self._service.workers}
            return [pid for pid in pids - self._stopped if is_stopped(pid)]

        what = f"a worker paused at {point}"
        for _ in range(100):
            with suppress(TimeoutError):
                return wait_until(newly_stopped, timeout=0.7, what=what)[0]
            # The message went to a worker that was stopped before, which cannot work on it.
            self._messages.send_job(job)
        raise TimeoutError(what)

    def resume(self) -> None:
        for worker in self._stopped:
            os.kill(worker, signal.SIGCONT)
