"""Callers that know 200 alone: what takes too long is 503, which a repeat joins (7.3)."""

from collections.abc import Iterator

import pytest
from sqlalchemy import update

from provisioning.background.job_runner import run_job
from provisioning.jobs.reading import get_job
from provisioning.state.enums import UNFINISHED_JOBS
from provisioning.state.models import Credentials
from tests.contract.conftest import ServiceMaker, new_project
from tests.contract.expectations import accepted_job, require_error, require_not_found
from tests.support.client import Answer, Client
from tests.support.service import Service

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def idle(make_service: ServiceMaker) -> Iterator[Service]:
    """A service whose jobs run when the test says so, and whose callers wait for a second."""
    with make_service({"DELETE_WAIT_SECONDS": "1"}) as service:
        yield service


def require_in_progress(answer: Answer) -> None:
    require_error(answer, 503, "job_in_progress", "The request is being processed, repeat it.")
    assert int(answer.headers["Retry-After"]) > 0


def new_client(service: Service) -> Client:
    return service.client(service.token(project=new_project()))


def path_of(client: Client) -> str:
    return f"/provisioning/mysql/{client.create()['id']}"


def jobs(client: Client, command: str) -> list[int]:
    return [job["id"] for job in client.get(f"/queue/jobs?q=command:{command}").body]


def run(service: Service, job: int) -> None:
    """Work until the job is done; jobs of other projects may be next."""
    while get_job(service.installation.database, job).status in UNFINISHED_JOBS:
        assert run_job(service.installation, job, ["mysql"]) is not None


def test_without_a_preference_a_wait_that_runs_out_is_503(idle: Service) -> None:
    client = new_client(idle)
    path = path_of(client)
    for headers in ({}, {"Prefer": "return=minimal"}):
        require_in_progress(client.post(f"{path}/kill", headers=headers))
    accepted_job(client.post(f"{path}/kill", headers={"Prefer": "wait=0"}))
    accepted_job(client.post(f"{path}/kill", headers=ASYNC))
    require_in_progress(client.delete(path))


def test_kills_share_a_job_that_has_not_started(idle: Service) -> None:
    client = new_client(idle)
    path = path_of(client)
    for _ in range(3):
        require_in_progress(client.post(f"{path}/kill"))
    (first,) = jobs(client, "kill")
    # Whoever is given the job's address has one of its own.
    assert accepted_job(client.post(f"{path}/kill", headers=ASYNC)) != first
    run(idle, first)
    # Its own is still to run, so the next one joins that.
    require_in_progress(client.post(f"{path}/kill"))
    assert len(jobs(client, "kill")) == 2


def test_the_repeat_of_a_delete_joins_its_job(idle: Service) -> None:
    client = new_client(idle)
    path = path_of(client)
    require_in_progress(client.delete(path))
    require_not_found(client.get(path))
    require_in_progress(client.delete(path))
    (job,) = jobs(client, "delete")
    assert accepted_job(client.delete(path, headers=ASYNC)) == job
    # It knows where to look, and the credential is hidden.
    require_not_found(client.delete(path))


def test_the_end_that_nobody_was_told_of_is_told_once(idle: Service) -> None:
    client = new_client(idle)
    path = path_of(client)
    require_in_progress(client.delete(path))
    run(idle, jobs(client, "delete")[0])
    assert idle.client().delete(path).status == 404
    answer = client.delete(path)
    assert (answer.status, answer.body) == (200, {"status": "ok"})
    require_not_found(client.delete(path))


def test_each_caller_that_was_told_to_come_again_is_told(idle: Service) -> None:
    client = new_client(idle)
    path = path_of(client)
    for _ in range(3):
        # The one caller comes again twice.
        require_in_progress(client.delete(path))
    count = update(Credentials).where(Credentials.id == int(path.rpartition("/")[2]))
    with idle.installation.database.write() as session:
        # As if another one had waited at the same time.
        session.execute(count.values(asked=Credentials.asked + 1))
    run(idle, jobs(client, "delete")[0])
    assert [client.delete(path).status for _ in range(3)] == [200, 200, 404]


def test_who_got_the_address_of_the_job_is_told_there(idle: Service) -> None:
    client = new_client(idle)
    for headers in (ASYNC, {"Prefer": "wait=0"}):
        path = path_of(client)
        job = accepted_job(client.delete(path, headers=headers))
        require_not_found(client.delete(path))
        run(idle, job)
        require_not_found(client.delete(path))


def test_an_end_is_remembered_for_ten_minutes(idle: Service) -> None:
    client = new_client(idle)
    created = client.create()
    path = f"/provisioning/mysql/{created['id']}"
    require_in_progress(client.delete(path))
    run(idle, jobs(client, "delete")[0])
    earlier = update(Credentials).where(Credentials.id == int(created["id"]))
    with idle.installation.database.write() as session:
        session.execute(earlier.values(dropped_at=Credentials.dropped_at - 600_000))
    require_not_found(client.delete(path))


def test_the_end_of_a_lifetime_is_no_repeat(idle: Service) -> None:
    client = new_client(idle)
    created = client.create()
    path = f"/provisioning/mysql/{created['id']}"
    over = update(Credentials).where(Credentials.id == int(created["id"]))
    with idle.installation.database.write() as session:
        session.execute(over.values(expires_at=1))
    client.create()
    assert len(jobs(client, "delete")) == 1
    require_not_found(client.delete(path))
