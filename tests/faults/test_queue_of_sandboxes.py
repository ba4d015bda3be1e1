"""The queue of sandboxes as its clients see it, whose requests and messages come twice."""

import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Any

import pytest

from provisioning.state.enums import JobStatus
from tests.faults.messages import Messages
from tests.faults.sandboxes import ASYNC, Judge, SandboxService, Visitor
from tests.support.deadlines import LONG_DEADLINE, wait_until

QUEUE = "provisioning-docker"
#: Seconds between two looks of a client at its job.
PAUSE = 0.2
#: The statuses of the contract in the order in which a job may have them.
ORDER = ("waiting", "processing", "terminating")
ENDS = ("success", "error", "cancelled", "terminated")


@pytest.fixture
def service(sandbox_service: SandboxService) -> SandboxService:
    """Three workers of sandboxes, with nothing armed."""
    return sandbox_service


@contextmanager
def workers_paused(service: SandboxService) -> Iterator[None]:
    """Let nobody take up jobs of sandboxes for a block."""
    for worker in service.dockers:
        worker.pause()
    try:
        yield
    finally:
        for worker in service.dockers:
            worker.resume()


@pytest.mark.fault(row="F6")
def test_messages_that_come_thrice_late_and_shuffled_have_one_effect(
    service: SandboxService, judge: Judge
) -> None:
    messages = Messages(service)
    leaving, *coming = (Visitor(service, type_) for type_ in ("jupyter", "rstudio", "jupyter"))
    number = leaving.create()["id"]
    with workers_paused(service):
        jobs = [leaving.order_drop(number), *(visitor.order() for visitor in coming)]
        messages.lose()
        shuffled = [*jobs * 3, *range(10**9, 10**9 + 5)]
        random.Random(7).shuffle(shuffled)
        for job in shuffled:
            messages.send_job(job, QUEUE)
    records = [leaving.finish_well(job) for job in jobs]
    for job in shuffled:
        messages.send_job(job, QUEUE)
    wait_until(lambda: messages.waiting(QUEUE) == 0, what="all messages taken")
    # A job that is done after them shows that the workers are through with them.
    leaving.drop(leaving.create()["id"])
    assert [leaving.finished(job) for job in jobs] == records
    assert not [record for record in records if "attempts" in record]
    judge.require_clean({record["result"]["credentials"]["id"] for record in records[1:]})


@pytest.mark.fault(row="F4")
def test_a_client_that_went_away_gets_the_same_sandbox_at_its_repeat(
    service: SandboxService, judge: Judge
) -> None:
    visitor = Visitor(service)
    own = f"/queue/jobs?q=token.id:{(visitor.client.token or '').split('-')[1]}"
    with workers_paused(service):
        _order_and_leave(visitor)
        wait_until(lambda: visitor.client.get(own).body, what="the job")
        visitor.order()
    records = [visitor.finish_well(job["id"]) for job in visitor.client.get(own).body]
    assert len(records) == 2
    assert records[0]["result"] == records[1]["result"]
    judge.require_clean({records[0]["result"]["credentials"]["id"]})


def _order_and_leave(visitor: Visitor) -> None:
    """Send a create and hang up before its answer."""
    body = f'{{"type": "{visitor.type}"}}'
    with socket.create_connection(("127.0.0.1", visitor.client.port)) as sender:
        sender.sendall(
            f"POST {ASYNC} HTTP/1.1\r\nHost: localhost\r\n"
            f"X-StorageApi-Token: {visitor.client.token}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )


# Polling --------------------------------------------------------------------------------


class Poll:
    """A client that looks at its job until that has ended; ``seen`` is what it was shown."""

    def __init__(self, visitor: Visitor, job: int) -> None:
        self._visitor, self.job = visitor, job
        self.seen: list[dict[str, Any]] = []

    def run(self) -> None:
        end, never = time.monotonic() + LONG_DEADLINE, Event()
        while not self.seen or not self.seen[-1]["isFinished"]:
            assert time.monotonic() < end, self.seen[-1]
            answer = self._visitor.client.get(f"/queue/job/{self.job}")
            assert answer.status == 200, answer
            assert answer.headers["Content-Type"] == "application/json"
            self.seen.append(answer.body)
            never.wait(PAUSE)

    def saw(self, status: str) -> bool:
        return any(record["status"] == status for record in self.seen)

    def end(self) -> str:
        """Return how the job ended; what was seen on the way there was in order."""
        last = self._visitor.finished(self.job)
        statuses = [record["status"] for record in [*self.seen, last]]
        assert statuses[0] == "waiting"
        begun = [status for status in statuses if status not in ENDS]
        assert begun == sorted(begun, key=ORDER.index)
        ended = [record for record in self.seen if record["status"] in ENDS]
        assert self.seen[len(begun) :] == ended
        assert all(record == last for record in ended)
        assert not any(record["isFinished"] for record in self.seen[: len(begun)])
        return str(last["status"])


def test_a_client_that_polls_sees_documented_statuses_in_order(
    service: SandboxService, judge: Judge
) -> None:
    """Four jobs at once, one for each of the ends that the contract knows."""
    wishes = ("slow", "exits", "slow", "never-ready")
    visitors = [Visitor(service) for _ in wishes]
    with workers_paused(service), ThreadPoolExecutor(len(wishes)) as executor:
        polls = [
            Poll(visitor, visitor.order(f"# stub: {wish}"))
            for visitor, wish in zip(visitors, wishes, strict=True)
        ]
        good, _, cancelled, killed = polls
        running = [executor.submit(poll.run) for poll in polls]
        wait_until(lambda: all(poll.seen for poll in polls), what="a first look")
        assert visitors[2].kill_job(cancelled.job) == JobStatus.CANCELLED
        for worker in service.dockers:
            worker.resume()
        wait_until(partial(killed.saw, "processing"), what="a look at work")
        assert visitors[3].kill_job(killed.job) == JobStatus.TERMINATED
        for one in running:
            one.result()
    assert [poll.end() for poll in polls] == list(ENDS)
    for poll in (good, killed):
        assert poll.saw("processing")
    judge.require_clean({good.seen[-1]["result"]["credentials"]["id"]})
