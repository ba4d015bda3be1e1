"""Projects share the workers, and each keeps its limit (contract 9.1.9)."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import pytest
from sqlalchemy import delete, func, select

from provisioning.jobs.recording import record_job
from provisioning.state.database import next_numbers
from provisioning.state.enums import JobCommand
from provisioning.state.models import Credentials, Job
from tests.contract.conftest import ServiceMaker, new_project
from tests.contract.expectations import (
    accepted_job,
    finished_job,
    require_error,
    require_not_found,
)
from tests.faults.messages import Messages
from tests.support.client import Answer, Client
from tests.support.service import Service

ASYNC = {"Prefer": "respond-async"}
#: Waiting jobs of the project that would keep all others waiting.
MANY = 1000


@pytest.fixture(scope="module")
def idle(make_service: ServiceMaker) -> Iterator[Service]:
    """A service without workers and sweeps."""
    with make_service({}) as service:
        yield service


def ask_for_kill(client: Client) -> int:
    path = f"/provisioning/mysql/{client.create()['id']}/kill"
    return accepted_job(client.post(path, headers=ASYNC))


def spans_of(service: Service, jobs: list[int]) -> list[tuple[int, int]]:
    """Return when each of the finished jobs ran."""
    query = select(Job.started_at, Job.ended_at).where(Job.id.in_(jobs)).order_by(Job.started_at)
    with service.installation.database.read() as session:
        return [(start or 0, end or 0) for start, end in session.execute(query)]


def waits_of(service: Service, jobs: list[int], starts: list[int]) -> list[int]:
    """Return how many of the starts came between each job's acceptance and its own."""
    query = select(Job.created_at, Job.started_at).where(Job.id.in_(jobs))
    with service.installation.database.read() as session:
        spans = [(accepted, started or 0) for accepted, started in session.execute(query)]
    return [len([s for s in starts if accepted < s < started]) for accepted, started in spans]


def add_waiting_kills(service: Service, credentials_id: int, amount: int) -> list[int]:
    """Add jobs on a credential as if each had a slot of its own, so that none waits for one."""
    with service.installation.database.write() as session:
        row = session.get_one(Credentials, credentials_id)
        jobs = []
        for _ in range(amount):
            numbers = next_numbers(session, "ticket", 2)
            job = record_job(session, JobCommand.KILL, row, numbers=(numbers[0], numbers[1]))
            job.slot = f"{job.id}:mysql:sandbox"
            jobs.append(job.id)
    return jobs


def forget(service: Service, jobs: list[int]) -> None:
    with service.installation.database.write() as session:
        session.execute(delete(Job).where(Job.id.in_(jobs)))


def test_a_thousand_jobs_of_a_project_do_not_keep_another_waiting(idle: Service) -> None:
    """The broker delivers the late messages last; their jobs start at once all the same."""
    crowd, late, *later = (idle.client(idle.token(project=new_project())) for _ in range(5))
    paths = [f"/provisioning/mysql/{client.create()['id']}/kill" for client in later]
    many = add_waiting_kills(idle, int(crowd.create()["id"]), MANY)
    messages = Messages(idle)
    for job in many:
        messages.send_job(job)
    last = ask_for_kill(late)
    worker = idle.start_worker()
    try:
        assert finished_job(late, last)["status"] == "success"
        meanwhile = []
        for client, path in zip(later, paths, strict=True):
            meanwhile.append(accepted_job(client.post(path, headers=ASYNC)))
            assert finished_job(client, meanwhile[-1])["status"] == "success"
    finally:
        worker.stop()
        messages.lose()
    ((started, _),) = spans_of(idle, [last])
    starts = [start for start, _ in spans_of(idle, many)]
    waits = waits_of(idle, meanwhile, starts)
    forget(idle, many)
    # Each of four threads may take one up before the crowd is seen.
    assert len([start for start in starts if 0 < start < started]) <= 8
    assert 0 in starts, "the crowd was done before the others came"
    assert median(waits) < MANY / 10, waits


def test_no_more_jobs_of_a_project_run_at_once_than_its_limit(idle: Service) -> None:
    project, limits = new_project(), {"components.jobsParallelism": 2}
    clients = [idle.client(idle.token(project=project, limits=limits)) for _ in range(8)]
    jobs = [ask_for_kill(client) for client in clients]
    worker = idle.start_worker()
    try:
        with ThreadPoolExecutor(len(jobs)) as pool:
            records = list(pool.map(finished_job, clients, jobs))
    finally:
        worker.stop()
    assert {record["status"] for record in records} == {"success"}
    spans = spans_of(idle, jobs)
    for start, _ in spans:
        # Without sweeps, the end of one wakes the next.
        assert len([1 for other, end in spans if other <= start < end]) <= 2


# Back-pressure --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(make_service: ServiceMaker) -> Iterator[Service]:
    """A service without workers in which two jobs of a project may wait, and three in all."""
    with make_service({"WAITING_JOBS_PER_PROJECT": "2", "WAITING_JOBS": "3"}) as service:
        yield service


def require_full(answer: Answer) -> None:
    message = "Too many jobs are waiting, try again later."
    require_error(answer, 503, "queue_full", message)


def test_when_too_many_jobs_wait_nothing_is_recorded(narrow: Service) -> None:
    project = new_project()
    client, other, third = (
        narrow.client(narrow.token(project=name)) for name in (project, project, new_project())
    )
    paths = [f"/provisioning/mysql/{one.create()['id']}" for one in (client, other, third)]
    for _ in range(2):
        first = accepted_job(client.post(f"{paths[0]}/kill", headers=ASYNC))
    require_full(client.post(f"{paths[0]}/kill", headers=ASYNC))
    require_full(other.delete(paths[1]))
    # The credential was not hidden, and nothing of the project's was recorded.
    assert other.get(paths[1]).status == 200
    last = accepted_job(third.post(f"{paths[2]}/kill", headers=ASYNC))
    assert number_of_jobs(narrow) == 3
    require_full(third.post(f"{paths[2]}/kill", headers=ASYNC))
    assert client.post(f"/queue/jobs/{first}/kill").status == 202
    accepted_job(other.delete(paths[1], headers=ASYNC))
    assert third.post(f"/queue/jobs/{last}/kill").status == 202


def test_what_is_not_there_is_not_found_before_the_queue_is_full(narrow: Service) -> None:
    """Contract 2.9: the object is looked up first."""
    client = narrow.client(narrow.token(project=new_project()))
    path = f"/provisioning/mysql/{client.create()['id']}"
    while client.post(f"{path}/kill", headers=ASYNC).status == 202:
        pass
    require_not_found(client.delete("/provisioning/mysql/999999"))


def number_of_jobs(service: Service) -> int:
    with service.installation.database.read() as session:
        return session.execute(select(func.count(Job.id))).scalar_one()
