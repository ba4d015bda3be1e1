"""What callers see while a job waits, with the worker away at first (contract 6.2.2, 7, 9.1)."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from devstack.mariadb import MariaDB
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import (
    TIME,
    accepted_job,
    finished_job,
    require_error,
    require_not_found,
)
from tests.contract.server_look import database_exists, require_login
from tests.contract.test_jobs import require_record
from tests.support.client import Client
from tests.support.deadlines import DEADLINE, wait_until
from tests.support.service import Service

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def idle(make_service: ServiceMaker) -> Iterator[Service]:
    """A service without a worker, whose creates wait two seconds at most."""
    with make_service({"CREATION_LIMIT_SECONDS": "2", "DELETE_WAIT_SECONDS": "60"}) as service:
        yield service


@contextmanager
def worker_of(service: Service) -> Iterator[None]:
    """Let a worker and a beat do what waits."""
    worker, beat = service.start_worker(), service.start_beat()
    try:
        yield
    finally:
        beat.stop()
        worker.stop()


def path_of(body: dict[str, object]) -> str:
    return f"/provisioning/mysql/{body['id']}"


def test_a_waiting_job_has_all_keys_and_no_times(idle: Service) -> None:
    client = idle.client()
    job = accepted_job(client.post(f"{path_of(client.create())}/kill", headers=ASYNC))
    body = client.get(f"/queue/job/{job}").body
    require_record(body)
    assert body["status"] == "waiting" and body["isFinished"] is False
    assert TIME.fullmatch(body["createdTime"])
    assert body["startTime"] is None and body["endTime"] is None
    assert body["durationSeconds"] is None and body["waitSeconds"] is None
    assert body["result"] == {}
    assert body["error"] is None and body["errorNote"] is None and body["terminatedBy"] is None


def test_a_waiting_job_tells_its_position(idle: Service) -> None:
    first, second = idle.client(), idle.client()
    before = accepted_job(first.post(f"{path_of(first.create())}/kill", headers=ASYNC))
    after = accepted_job(second.post(f"{path_of(second.create())}/kill", headers=ASYNC))
    records = [first.get(f"/queue/job/{job}").body for job in (before, after)]
    positions = [record["position"] for record in records]
    assert positions[1] == positions[0] + 1
    # Nobody works, so nobody can tell when.
    assert [record["expectedStart"] for record in records] == [None, None]
    kill_job(first, before)
    assert first.get(f"/queue/job/{after}").body["position"] == positions[0]
    assert "position" not in first.get(f"/queue/job/{before}").body


def seconds_of_a_kill(client: Client, wanted: str) -> float:
    """Return how long the answer to a kill was held that no worker takes up."""
    path = path_of(client.create())
    start = time.monotonic()
    answer = client.post(f"{path}/kill", headers={"Prefer": wanted})
    seconds = time.monotonic() - start
    accepted_job(answer)
    assert answer.headers.get("Preference-Applied") is None
    return seconds


@pytest.mark.parametrize("wanted", [0, 2])
def test_the_wait_of_a_delete_and_a_kill_is_what_prefer_says(idle: Service, wanted: int) -> None:
    """Without the preference it would be a minute."""
    assert wanted <= seconds_of_a_kill(idle.client(), f"wait={wanted}") < 30


def test_without_a_preference_the_wait_is_the_configured_one(make_service: ServiceMaker) -> None:
    with make_service({"DELETE_WAIT_SECONDS": "1"}) as service:
        client = service.client()
        path = f"{path_of(client.create())}/kill"
        start = time.monotonic()
        assert client.post(path).status == 503
        assert 1 <= time.monotonic() - start < 15, "the default is half a minute"


def test_a_long_poll_holds_the_answer_for_its_seconds(idle: Service) -> None:
    client = idle.client()
    job = accepted_job(client.post(f"{path_of(client.create())}/kill", headers=ASYNC))
    start = time.monotonic()
    answer = client.get(f"/queue/jobs/{job}?wait=1")
    assert 1 <= time.monotonic() - start < DEADLINE
    assert (answer.status, answer.body["status"]) == (200, "waiting")


def test_from_acceptance_of_a_delete_the_credential_is_hidden(idle: Service) -> None:
    client = idle.client()
    created = client.create()
    job = accepted_job(client.delete(path_of(created), headers=ASYNC))
    require_not_found(client.get(path_of(created)))
    require_not_found(client.get("/provisioning/mysql?type=sandbox"))
    require_not_found(client.post(f"{path_of(created)}/extend"))
    require_not_found(client.post(f"{path_of(created)}/kill"))
    require_not_found(client.delete(path_of(created)))
    assert client.get(f"/queue/job/{job}").body["status"] == "waiting"


def test_a_create_meanwhile_says_that_it_is_going_on(idle: Service) -> None:
    client = idle.client()
    created = client.create()
    accepted_job(client.delete(path_of(created), headers=ASYNC))
    start = time.monotonic()
    answer = client.post("/provisioning/mysql", {"type": "sandbox"})
    message = "Credentials are being created, repeat the request."
    require_error(answer, 503, "creation_in_progress", message)
    assert 2 <= time.monotonic() - start < DEADLINE
    assert client.post("/provisioning/mysql", {"type": "transformations"}).status == 201


def test_when_the_worker_comes_everything_that_waited_ends(idle: Service, mariadb: MariaDB) -> None:
    client = idle.client()
    created = client.create()
    job = accepted_job(client.delete(path_of(created), headers=ASYNC))
    with ThreadPoolExecutor(1) as pool:
        polled = pool.submit(finished_job, client, job)
        with worker_of(idle):
            record = polled.result()
            second = create_again(client)
    assert record["status"] == "success"
    assert not database_exists(mariadb, created["credentials"]["db"])
    assert second["id"] != created["id"]
    require_login(second["credentials"])


def create_again(client: Client) -> dict[str, Any]:
    """Repeat the create, as clients do on 503, until the delete before it is over."""
    created = wait_until(lambda: created_or_none(client), what="the create after the delete")
    assert created is not None
    return created


def created_or_none(client: Client) -> dict[str, Any] | None:
    answer = client.post("/provisioning/mysql", {"type": "sandbox"})
    assert answer.status in (201, 503)
    return dict(answer.body) if answer.status == 201 else None


def kill_job(client: Client, job_id: int) -> None:
    answer = client.post(f"/queue/jobs/{job_id}/kill")
    assert answer.status == 202, answer
    assert answer.body == {"message": "job termination request accepted for processing"}


def test_a_killed_waiting_delete_never_starts_and_its_credential_is_back(idle: Service) -> None:
    """Contract 9.4.1 and 6.2.2."""
    token = idle.token(description="killer")
    client = idle.client(token)
    created = client.create()
    job = accepted_job(client.delete(path_of(created), headers=ASYNC))
    require_not_found(client.get(path_of(created)))
    kill_job(client, job)
    record = client.get(f"/queue/job/{job}").body
    require_record(record)
    assert record["status"] == "cancelled" and record["isFinished"] is True
    assert record["terminatedBy"]["description"] == "killer"
    assert record["error"] is None and record["startTime"] is None
    assert client.get(path_of(created)).body["credentials"] == created["credentials"]
    with worker_of(idle):
        last = accepted_job(client.post(f"{path_of(created)}/kill", headers=ASYNC))
        assert finished_job(client, last)["status"] == "success"
    assert client.get(f"/queue/job/{job}").body == record
    require_login(created["credentials"])


def test_a_finished_job_cannot_be_killed(idle: Service) -> None:
    client = idle.client()
    job = accepted_job(client.post(f"{path_of(client.create())}/kill", headers=ASYNC))
    kill_job(client, job)
    answer = client.post(f"/queue/jobs/{job}/kill")
    require_error(answer, 400, "job_finished", f"Job id '{job}' is already finished.")


def test_only_jobs_of_the_own_project_can_be_killed(idle: Service, project: str) -> None:
    client = idle.client()
    job = accepted_job(client.post(f"{path_of(client.create())}/kill", headers=ASYNC))
    stranger = idle.client(idle.token(project=project))
    for unknown in (str(job), "999999999", "01", "x"):
        answer = stranger.post(f"/queue/jobs/{unknown}/kill")
        require_error(answer, 404, "job_not_found", f"Job id '{unknown}' not found.")
    assert client.get(f"/queue/job/{job}").body["status"] == "waiting"
