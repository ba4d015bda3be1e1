"""Where a waiting job stands."""

import pytest

from provisioning.jobs.backlog import find_queue_position
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import JobStatus
from provisioning.state.models import Job
from tests.support.waiting_jobs import Queue


def positions(queue: Queue, numbers: list[int]) -> list[int]:
    return [
        find_queue_position(queue.installation.database, job(queue, number)).position
        for number in numbers
    ]


def job(queue: Queue, number: int) -> Job:
    with queue.installation.database.read() as session:
        return session.get_one(Job, number)


def test_positions_are_the_order_in_which_jobs_start(queue: Queue) -> None:
    crowd, few = queue.add("1", 4), queue.add("2", 2)
    queue.add("3", 5, backend="docker")
    assert positions(queue, crowd) == [1, 3, 5, 6]
    assert positions(queue, few) == [2, 4]
    order = sorted([*crowd, *few], key=lambda number: positions(queue, [number]))
    served = []
    for turn in range(6):
        claimed = queue.claim(0)
        assert claimed is not None
        served.append(claimed.job.id)
        queue.change(claimed.job.id, started_at=turn + 1)
        queue.end(claimed)
    assert served == order


def test_a_start_is_expected_by_the_jobs_that_ended_lately(queue: Queue) -> None:
    ended, other, running, *waiting = queue.add("1", 5)
    assert (
        find_queue_position(queue.installation.database, job(queue, waiting[1])).expected_start
        is None
    )
    with queue.installation.database.read() as session:
        now = read_clock(session)
    queue.change(ended, status=JobStatus.SUCCESS, started_at=now - 9_000, ended_at=now - 5_000)
    values = {"started_at": now - 90_000, "ended_at": now, "backend": "docker"}
    queue.change(other, status=JobStatus.SUCCESS, **values)
    assert (
        find_queue_position(queue.installation.database, job(queue, waiting[1])).expected_start
        is None
    )
    queue.change(running, status=JobStatus.PROCESSING, claim_until=now_ms() + 60_000)
    found = find_queue_position(queue.installation.database, job(queue, waiting[1]))
    assert found.position == 2
    assert found.expected_start == pytest.approx(now + 8_000, abs=5_000)
