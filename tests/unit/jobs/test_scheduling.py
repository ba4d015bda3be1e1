"""Whose turn it is: fair turns of projects, and their limits, on each state database."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import select

from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.queues import queue_of
from provisioning.jobs.claiming import Claimed
from provisioning.jobs.scheduling import TRIES, next_after, next_job
from provisioning.state.database import now_ms
from provisioning.state.models import Job
from tests.support.deadlines import DEADLINE
from tests.support.statements import plans_of, statements_of
from tests.support.waiting_jobs import BOTH, MYSQL, Queue
from workers.messages import backends_of

# Turns ----------------------------------------------------------------------------------


def test_a_message_runs_the_job_it_names_while_no_other_project_waits(queue: Queue) -> None:
    jobs = queue.add("1", 3)
    assert [queue.take(jobs[2]), queue.take(jobs[0]), queue.take(jobs[1])] == [
        jobs[2],
        jobs[0],
        jobs[1],
    ]


def test_a_late_message_runs_what_is_due_instead(queue: Queue) -> None:
    first, second = queue.add("1", 2)
    assert queue.take(first) == first
    assert queue.take(first) == second
    assert queue.take(first) is None


def test_a_project_that_came_late_is_next(queue: Queue) -> None:
    many = queue.add("1", 50)
    for job in many[:4]:
        assert queue.take(job) == job
    (late,) = queue.add("2")
    assert queue.take(many[4]) == late
    assert queue.take(late) == many[4]


def test_projects_take_turns_even_with_one_worker(queue: Queue) -> None:
    """One job at a time, so that no project has jobs at work when the next one is chosen."""
    many = queue.add("1", 20)
    few, others = queue.add("2", 5), queue.add("3", 5)
    served = []
    for message in [*many, *few, *others]:
        claimed = queue.claim(message)
        assert claimed is not None
        served.append(claimed.job.project_id)
        queue.change(claimed.job.id, started_at=len(served))
        queue.end(claimed)
    assert {tuple(sorted(served[turn : turn + 3])) for turn in range(0, 15, 3)} == {("1", "2", "3")}
    assert served[15:] == ["1"] * 15


def test_the_project_with_the_fewest_jobs_at_work_is_next(queue: Queue) -> None:
    queue.add("1", 10), queue.add("2", 10)
    taken = [queue.claim(0) for _ in range(12)]
    projects = Counter(claimed.job.project_id for claimed in taken if claimed)
    assert projects == {"1": 6, "2": 6}
    for claimed in taken:
        if claimed and claimed.job.project_id == "2":
            queue.end(claimed)
    again = [queue.claim(0) for _ in range(4)]
    assert {claimed.job.project_id for claimed in again if claimed} == {"2"}


def test_a_worker_takes_no_job_of_another_queue(queue: Queue) -> None:
    (docker,) = queue.add("1", backend="docker")
    assert queue.take(0) is None
    assert queue.take(0, BOTH) == docker


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_message_is_a_ticket_for_the_jobs_of_its_queue(backend: str) -> None:
    assert backend in backends_of(queue_of(backend)) <= set(BACKENDS)
    assert ("docker" in backends_of(queue_of(backend))) is (backend == "docker")


def test_jobs_that_are_not_due_are_passed_over(queue: Queue) -> None:
    running, behind = queue.add("1", 2, slot="s")
    (paused, due) = queue.add("2", 2)
    queue.change(paused, not_before=now_ms() + 60_000)
    assert queue.take(running) == running
    assert queue.take(behind) == due
    assert queue.take(behind) is None


def test_a_begun_job_is_taken_up_again_when_its_pause_is_over(queue: Queue) -> None:
    (begun,) = queue.add("1")
    claimed = queue.claim(begun)
    assert claimed is not None
    queue.add("2", 3)
    with queue.installation.database.write() as session:
        claimed.lease.close(session, not_before=now_ms() + 60_000)
    assert [queue.take(0) is not None for _ in range(2)] == [True, True]
    queue.change(begun, not_before=now_ms() - 1)
    # Its project has nothing at work, the other one two jobs.
    assert queue.take(0) == begun


def test_a_job_whose_worker_died_is_taken_up_again(queue: Queue) -> None:
    (begun,) = queue.add("1")
    assert queue.take(begun) == begun
    assert queue.take(0) is None
    queue.change(begun, claim_until=now_ms() - 1)
    assert queue.take(0) == begun


def test_one_message_gives_up_on_jobs_that_cannot_be_claimed(queue: Queue) -> None:
    """A job whose credential somebody else works on looks due, and is not."""
    found: list[int] = []
    jobs = queue.add("1", TRIES + 2)
    for _ in range(TRIES):
        chosen = next_job(queue.installation.database, MYSQL, found)
        assert chosen is not None and chosen not in found
        found.append(chosen)
    assert found == jobs[:TRIES]


# Limits ---------------------------------------------------------------------------------


def test_a_project_runs_no_more_jobs_than_its_limit(queue: Queue) -> None:
    jobs = queue.add("1", 5, limit=2)
    first, second = queue.claim(jobs[0]), queue.claim(jobs[1])
    assert first is not None and second is not None
    assert queue.take(jobs[2]) is None
    (other,) = queue.add("2", limit=2)
    assert queue.take(jobs[3]) == other
    queue.end(first)
    assert next_after(queue.installation.database, first.job) == (jobs[2], "mysql")
    assert queue.take(jobs[2]) == jobs[2]
    assert queue.take(jobs[3]) is None


def test_a_paused_job_keeps_its_place(queue: Queue) -> None:
    begun, waiting = queue.add("1", 2, limit=1)
    claimed = queue.claim(begun)
    assert claimed is not None
    with queue.installation.database.write() as session:
        claimed.lease.close(session, not_before=now_ms() + 60_000)
    assert queue.take(waiting) is None
    queue.change(begun, not_before=0)
    assert queue.take(waiting) == begun


def test_a_lowered_limit_holds_for_jobs_that_come_after(queue: Queue) -> None:
    before = queue.add("1", 3, limit=3)
    claimed = [queue.claim(job) for job in before]
    after = queue.add("1", 2, limit=1)
    for running in claimed:
        assert running is not None
        assert queue.take(after[0]) is None
        queue.end(running)
    assert queue.take(after[0]) == after[0]
    assert queue.take(after[1]) is None


def test_workers_that_claim_at_the_same_moment_keep_the_limit(queue: Queue, state_url: str) -> None:
    """Six processes' worth of connections, eight rounds of twelve jobs with three places."""
    workers = [Queue(state_url) for _ in range(6)]
    together = Barrier(len(workers))

    def claim(worker: Queue, jobs: list[int]) -> list[Claimed]:
        together.wait(DEADLINE)
        return [claimed for job in jobs if (claimed := worker.claim(job)) is not None]

    with ThreadPoolExecutor(len(workers)) as pool:
        for turn in range(8):
            jobs = queue.add(f"p{turn}", 12, limit=3)
            shares = [jobs[number::6] for number in range(6)]
            claimed = [job for found in pool.map(claim, workers, shares) for job in found]
            assert len(claimed) == 3
            with queue.installation.database.read() as session:
                query = select(Job.place).where(Job.place.is_not(None)).order_by(Job.place)
                assert list(session.scalars(query)) == [1, 2, 3]
            for one in claimed:
                queue.end(one)
            queue.clear()
    for worker in workers:
        worker.installation.close()


# Cost -----------------------------------------------------------------------------------


def test_a_lone_job_costs_one_look_at_others(queue: Queue) -> None:
    """One statement tells the time, whether the job is due, and whether anybody else waits."""
    (job,) = queue.add("1")
    with statements_of(queue.installation.database) as statements:
        assert queue.take(job) == job
    kinds = [statement.split()[0] for statement, _ in statements if "jobs" in statement]
    assert kinds == ["UPDATE", "SELECT", "SELECT", "SELECT", "UPDATE"]


@pytest.mark.parametrize("state_url", ["sqlite"], indirect=True)
def test_turns_are_found_by_indexes(queue: Queue) -> None:
    """No table is read through, however many jobs are finished."""
    queue.add("1", 3, limit=1)
    (late,) = queue.add("2")
    database = queue.installation.database
    with statements_of(database) as statements:
        assert queue.take(0) is not None
        claimed = queue.claim(0)
        assert claimed is not None and claimed.job.id == late
        next_after(database, claimed.job)
    assert len(statements) > 10
    for plan in plans_of(database, statements):
        assert "SCAN jobs" not in plan, plan
