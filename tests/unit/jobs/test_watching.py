"""Waiting for jobs: it is cheap, and nobody's end is missed."""

import time
from concurrent.futures import ThreadPoolExecutor

from provisioning.jobs.reading import get_job
from provisioning.jobs.watching import JobWatch, _Watched
from provisioning.state.enums import JobStatus
from provisioning.state.models import Job
from tests.support.deadlines import DEADLINE, LONG_DEADLINE, wait_until
from tests.support.statements import statements_of
from tests.support.waiting_jobs import Queue

#: Threads that wait at once.
MANY = 40


def waiting_job(queue: Queue) -> Job:
    (number,) = queue.add("1", 1)
    return get_job(queue.installation.database, number)


def test_each_wait_ends_with_its_job(queue: Queue) -> None:
    watch = JobWatch(queue.installation.database)
    first, second = waiting_job(queue), waiting_job(queue)
    with ThreadPoolExecutor(3) as executor:
        waits = [executor.submit(watch.wait, job, LONG_DEADLINE) for job in (first, first, second)]
        queue.change(first.id, status=JobStatus.SUCCESS)
        assert [one.result(DEADLINE).status for one in waits[:2]] == [JobStatus.SUCCESS] * 2
        assert not waits[2].done()
        queue.change(second.id, status=JobStatus.ERROR)
        assert waits[2].result(DEADLINE).status is JobStatus.ERROR


def test_a_wait_ends_with_its_time(queue: Queue) -> None:
    watch = JobWatch(queue.installation.database)
    job = waiting_job(queue)
    start = time.monotonic()
    assert watch.wait(job, 0) is job
    assert watch.wait(job, 0.3).status is JobStatus.WAITING
    assert 0.3 <= time.monotonic() - start < DEADLINE


def test_many_waits_ask_the_database_no_more_often_than_one(queue: Queue) -> None:
    watch = JobWatch(queue.installation.database)
    numbers = [waiting_job(queue) for _ in range(MANY)]
    with (
        ThreadPoolExecutor(MANY) as executor,
        statements_of(queue.installation.database) as statements,
    ):
        list(executor.map(lambda job: watch.wait(job, 2), numbers))
    # Each looks once at its own end; alone, one looks some forty times in two seconds.
    assert len(statements) - MANY < 4 * MANY


def test_who_comes_while_the_end_is_being_seen_is_told_of_it(queue: Queue) -> None:
    job = waiting_job(queue)

    class Overtaken(JobWatch):
        def _ended(self, job_ids: list[int]) -> list[int]:
            self._leave(job.id, first)
            second.append(self._join(job.id))
            return job_ids

    second: list[_Watched] = []
    watch = Overtaken(queue.installation.database)
    with watch._change:
        # The look begins when this is over.
        first = watch._join(job.id)
    wait_until(lambda: second, what="the look")
    assert second[0].ended.wait(DEADLINE)
