"""Requests and messages that arrive more than once, late, or whose sender is gone."""

import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from provisioning.state.enums import JobCommand, JobStatus
from provisioning.state.models import Credentials, Job
from tests.faults.callers import Caller, Ledger
from tests.faults.messages import Messages
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultyService
from tests.support.client import Answer
from tests.support.deadlines import wait_until
from tests.support.servers import connect_as

TYPES = ("sandbox", "transformations")


@pytest.mark.fault(row="F4")
@pytest.mark.parametrize("type_", TYPES)
def test_a_client_that_went_away_gets_the_same_credentials_at_its_repeat(
    service: FaultyService, oracle: Oracle, caller: Caller, type_: str
) -> None:
    service.points["web"].arm("create.database", "pause")
    sender = _send_create(service, caller, type_)
    service.points["web"].wait_taken("create.database")
    sender.close()
    for front in service.fronts:
        front.resume()
    first = caller.create(type_)
    assert caller.create(type_) == first
    connect_as(first["credentials"]).close()
    assert _rows_of(oracle, caller) == 1
    oracle.assert_clean()


def _send_create(service: FaultyService, caller: Caller, type_: str) -> socket.socket:
    """Send a create over a raw connection and return it, without reading the answer."""
    body = f'{{"type": "{type_}"}}'
    sender = socket.create_connection(("127.0.0.1", service.port()))
    sender.sendall(
        (
            "POST /provisioning/mysql HTTP/1.1\r\nHost: localhost\r\n"
            f"X-StorageApi-Token: {caller.token}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
    )
    return sender


def _rows_of(oracle: Oracle, caller: Caller) -> int:
    """Return how many credentials the caller's token ever had."""
    token_id = caller.token.split("-")[1]
    query = select(func.count()).where(Credentials.token_id == token_id)
    with oracle.installation.database.read() as session:
        return session.execute(query).scalar_one()


@pytest.mark.fault(row="F5")
@pytest.mark.parametrize("type_", TYPES)
def test_fifty_equal_creates_at_once_make_one_credential(
    service: FaultyService, oracle: Oracle, caller: Caller, type_: str
) -> None:
    together = threading.Barrier(50)

    def create(number: int) -> Answer:
        client = service.impatient_client(caller.token, front=number % 2)
        together.wait()
        return client.post("/provisioning/mysql", {"type": type_})

    with ThreadPoolExecutor(max_workers=50) as executor:
        answers = list(executor.map(create, range(50)))
    assert [answer.status for answer in answers] == [201] * 50
    assert len({answer.text for answer in answers}) == 1
    assert _rows_of(oracle, caller) == 1
    caller.ledger.created(caller.token, answers[0].body)
    connect_as(answers[0].body["credentials"]).close()
    oracle.assert_clean()


@pytest.mark.fault(row="F6")
def test_messages_that_come_thrice_late_and_shuffled_have_one_effect(
    service: FaultyService, oracle: Oracle, ledger: Ledger
) -> None:
    messages, callers = Messages(service), [Caller(service, ledger) for _ in range(10)]
    bodies = [caller.create(TYPES[n % 2]) for n, caller in enumerate(callers)]
    for worker in service.workers:
        worker.pause()
    jobs = _ask_for_kills_and_drops(callers, bodies)
    messages.lose()
    shuffled = [*jobs * 3, *range(10**9, 10**9 + 5)]
    random.Random(7).shuffle(shuffled)
    for job in shuffled:
        messages.send_job(job)
    for worker in service.workers:
        worker.resume()
    assert oracle.settle(), oracle.unfinished()
    _assert_one_effect(oracle, jobs)
    before = _traces(oracle, jobs)
    for job in shuffled:
        messages.send_job(job)
    for body in bodies:
        messages.send_credentials(int(body["id"]))
    wait_until(lambda: messages.waiting() == 0, what="all messages taken")
    # A job that is done after them shows that the workers are through with them.
    last = Caller(service, ledger)
    last.drop(last.create()["id"])
    assert _traces(oracle, jobs) == before
    for body in bodies:
        ledger.deleted(body["id"])
    oracle.assert_clean()


def _ask_for_kills_and_drops(callers: list[Caller], bodies: list[dict[str, str]]) -> list[int]:
    jobs = []
    for caller, body in zip(callers, bodies, strict=True):
        kill = caller.ask(
            "POST",
            f"/provisioning/mysql/{body['id']}/kill",
            headers={"Prefer": "respond-async"},
        )
        jobs.append(int(kill.body["id"]))
    for caller, body in zip(callers, bodies, strict=True):
        drop = caller.drop_later(body["id"])
        assert drop is not None
        jobs.append(drop)
    return jobs


def _assert_one_effect(oracle: Oracle, jobs: list[int]) -> None:
    """Check that each job ran once, and kills before the drops of the same credential."""
    with oracle.installation.database.read() as session:
        records = session.scalars(select(Job).where(Job.id.in_(jobs))).all()
    assert [record.status for record in records] == [JobStatus.SUCCESS] * len(jobs)
    assert {record.attempts for record in records} == {1}
    ends = {(record.credentials_id, record.command): record.ended_at or 0 for record in records}
    for (number, command), end in ends.items():
        if command is JobCommand.KILL:
            assert end <= ends[number, JobCommand.DELETE]


def _traces(oracle: Oracle, jobs: list[int]) -> list[tuple[object, ...]]:
    """Return what a second effect would change in the jobs and their credentials."""
    job_query = select(Job.id, Job.status, Job.attempts, Job.claim_token, Job.ended_at)
    row_query = select(Credentials.id, Credentials.state, Credentials.dropped_at)
    numbers = select(Job.credentials_id).where(Job.id.in_(jobs))
    with oracle.installation.database.read() as session:
        return [
            *map(tuple, session.execute(job_query.where(Job.id.in_(jobs)).order_by(Job.id))),
            *map(tuple, session.execute(row_query.where(Credentials.id.in_(numbers)))),
        ]
