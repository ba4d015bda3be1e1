"""The job record and its addresses (contract 9.1 and 9.2)."""

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import select

from provisioning.state.models import Job
from tests.contract.expectations import (
    TIME,
    accepted_job,
    finished_job,
    require_error,
    require_headers,
)
from tests.support.client import Client
from tests.support.service import Service

KEYS = {
    "id", "runId", "lockName", "project", "token", "component", "command", "params", "result",
    "status", "process", "createdTime", "startTime", "endTime", "durationSeconds", "waitSeconds",
    "nestingLevel", "error", "errorNote", "terminatedBy", "encrypted", "usage", "isFinished",
    "_index", "_type", "url",
}  # fmt: skip
#: Additions in the record of a job that waits, read by itself.
WAITING_KEYS = {"position", "expectedStart"}
ASYNC = {"Prefer": "respond-async"}


def start_kill(client: Client, run_id: str | None = None) -> int:
    headers = ASYNC if run_id is None else {**ASYNC, "X-KBC-RunId": run_id}
    path = f"/provisioning/mysql/{client.create()['id']}/kill"
    return accepted_job(client.post(path, headers=headers))


def require_record(job: dict[str, Any]) -> None:
    """The keys and types that hold for every job (9.1.1)."""
    assert set(job) == KEYS | (WAITING_KEYS if job["status"] == "waiting" else set())
    assert type(job["id"]) is int
    assert isinstance(job["runId"], str)
    assert job["component"] == "keboola-provisioning-bundle"
    assert type(job["nestingLevel"]) is int
    assert set(job["process"]) == {"host", "pid"}
    assert isinstance(job["params"], dict) and isinstance(job["result"], dict)
    assert type(job["isFinished"]) is bool
    assert job["encrypted"] is None and job["_index"] is None
    assert job["usage"] == [] and job["_type"] == "jobs"


@pytest.mark.parametrize("command", ["delete", "kill"])
def test_a_finished_jobs_record_is_whole(service: Service, project: str, command: str) -> None:
    client = service.client(service.token(project=project, description="a@b.cz"))
    created = client.create()
    path = f"/provisioning/mysql/{created['id']}"
    answer = (
        client.delete(path, headers=ASYNC)
        if command == "delete"
        else client.post(f"{path}/kill", headers=ASYNC)
    )
    job = finished_job(client, accepted_job(answer))
    require_record(job)
    assert job["id"] == answer.body["id"]
    assert job["url"] == answer.body["url"]
    assert job["lockName"] == f"keboola-provisioning-bundle-{project}"
    assert job["project"] == {"id": int(project), "name": f"Project {project}"}
    assert set(job["token"]) == {"id", "description"}
    assert isinstance(job["token"]["id"], str)
    assert job["token"]["description"] == "a@b.cz"
    assert job["command"] == command
    assert job["params"] == {"backend": "mysql", "id": created["id"]}
    assert job["result"] == {"status": "ok"}
    assert job["status"] == "success" and job["isFinished"] is True
    assert job["error"] is None and job["errorNote"] is None and job["terminatedBy"] is None
    assert isinstance(job["process"]["host"], str) and job["process"]["host"]
    assert job["process"]["pid"] == service.workers[0].pid


def test_times_and_durations_fit_each_other(client: Client) -> None:
    job = finished_job(client, start_kill(client))
    for key in ("createdTime", "startTime", "endTime"):
        assert TIME.fullmatch(job[key])
    created, started, ended = (
        datetime.fromisoformat(job[key]) for key in ("createdTime", "startTime", "endTime")
    )
    assert created <= started <= ended
    assert type(job["durationSeconds"]) is int and type(job["waitSeconds"]) is int
    assert job["durationSeconds"] == (ended - started).total_seconds()
    assert job["waitSeconds"] == (started - created).total_seconds()


def test_the_host_of_a_job_is_this_one(client: Client) -> None:
    job = finished_job(client, start_kill(client))
    assert job["process"]["host"] == socket.gethostname()


def test_the_record_answer_has_the_usual_headers(service: Service, client: Client) -> None:
    job = start_kill(client)
    finished_job(client, job)
    answers = [
        service.client(client.token, front=n).get(f"/queue/{word}/{job}?wait=20")
        for n in (0, 1)
        for word in ("job", "jobs")
    ]
    for answer in answers:
        assert answer.status == 200
        require_headers(answer)
        answer.body.pop("url")
    assert len({repr({**answer.body, "url": None}) for answer in answers}) == 1


def test_a_finished_job_never_changes_again(service: Service, client: Client) -> None:
    body = client.create()
    job = accepted_job(client.post(f"/provisioning/mysql/{body['id']}/kill", headers=ASYNC))
    first = finished_job(client, job)
    client.delete(f"/provisioning/mysql/{body['id']}")
    assert client.get(f"/queue/job/{job}").body == first


def test_the_password_is_in_no_record(client: Client) -> None:
    body = client.create()
    job = accepted_job(client.delete(f"/provisioning/mysql/{body['id']}", headers=ASYNC))
    finished_job(client, job)
    assert body["credentials"]["password"] not in client.get(f"/queue/job/{job}").text


# Who sees it ----------------------------------------------------------------------------


def test_a_job_is_seen_by_every_token_of_its_project_and_by_no_other(
    service: Service, project: str
) -> None:
    owner = service.client(service.token(project=project, person="4"))
    job = start_kill(owner)
    colleague = service.client(service.token(project=project))
    stranger = service.client(service.token(project=f"{project}1", person="4"))
    assert finished_job(colleague, job)["id"] == job
    for path in (f"/queue/job/{job}", f"/queue/jobs/{job}", f"/queue/job/{job}?wait=5"):
        require_error(stranger.get(path), 404, "job_not_found", f"Job id '{job}' not found.")


@pytest.mark.parametrize("form", ["0{}", "+{}", "{}.0", "%20{}", "{}%20", "{}x"])
def test_a_job_id_of_another_form_is_an_unknown_job(client: Client, form: str) -> None:
    job = start_kill(client)
    answer = client.get(f"/queue/job/{form.format(job)}")
    shown = form.format(job).replace("%20", " ")
    require_error(answer, 404, "job_not_found", f"Job id '{shown}' not found.")


# Numbers and run ids --------------------------------------------------------------------


def test_without_a_run_id_the_jobs_is_a_ticket_alone(client: Client) -> None:
    job = finished_job(client, start_kill(client))
    assert re.fullmatch("[1-9][0-9]*", job["runId"])
    assert int(job["runId"]) != job["id"]
    assert job["nestingLevel"] == 0


@pytest.mark.parametrize(
    "run_id", ["206296230", "206296230.206296231", "nightly run [a.b] (1)", "x"]
)
def test_a_run_id_is_put_before_the_ticket(client: Client, run_id: str) -> None:
    job = finished_job(client, start_kill(client, run_id))
    assert re.fullmatch(re.escape(run_id) + r"\.[1-9][0-9]*", job["runId"])
    assert job["nestingLevel"] == job["runId"].count(".") == run_id.count(".") + 1


@pytest.mark.parametrize("run_id", ["", "   "])
def test_a_blank_run_id_counts_as_absent(client: Client, run_id: str) -> None:
    job = finished_job(client, start_kill(client, run_id))
    assert re.fullmatch("[1-9][0-9]*", job["runId"])


def test_a_run_id_may_be_any_text(client: Client) -> None:
    text = "nächtlich – 夜"
    job = finished_job(client, start_kill(client, text.encode().decode("latin-1")))
    assert job["runId"].startswith(f"{text}.")


def test_a_long_run_id_is_kept_whole(client: Client) -> None:
    run_id = "r" * 3000
    job = finished_job(client, start_kill(client, run_id))
    assert job["runId"].startswith(f"{run_id}.")


def test_job_ids_and_tickets_come_from_one_growing_sequence(client: Client) -> None:
    numbers = []
    for _ in range(3):
        job = finished_job(client, start_kill(client))
        numbers += [job["id"], int(job["runId"])]
    assert len(set(numbers)) == 6
    jobs, tickets = numbers[::2], numbers[1::2]
    assert jobs == sorted(jobs) and tickets == sorted(tickets)
    assert max(jobs[0], tickets[0]) < min(jobs[1], tickets[1])
    assert max(jobs[1], tickets[1]) < min(jobs[2], tickets[2])


def test_jobs_of_one_credential_run_one_after_the_other(service: Service, client: Client) -> None:
    path = f"/provisioning/mysql/{client.create()['id']}"
    callers = [service.client(client.token, front=n % 2) for n in range(12)]
    with ThreadPoolExecutor(len(callers)) as pool:
        answers = list(pool.map(lambda c: c.post(f"{path}/kill", headers=ASYNC), callers))
    dropped = accepted_job(client.delete(path, headers=ASYNC))
    ids = sorted(accepted_job(answer) for answer in answers) + [dropped]
    for job in ids:
        assert finished_job(client, job)["status"] == "success"
    with service.installation.database.read() as session:
        query = select(Job.started_at, Job.ended_at).where(Job.id.in_(ids)).order_by(Job.id)
        spans = [(start or 0, end or 0) for start, end in session.execute(query)]
    for (_, ended), (started, _) in zip(spans, spans[1:], strict=False):
        assert started >= ended


# Long poll ------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["", "0", "1", "60", "61", "999999999", "99999999999999999999"])
def test_a_wait_on_a_finished_job_answers_at_once(client: Client, wait: str) -> None:
    job = start_kill(client)
    finished_job(client, job)
    start = time.monotonic()
    answer = client.get(f"/queue/job/{job}?wait={wait}")
    assert answer.status == 200
    assert answer.body["status"] == "success"
    # A minute is what the longest of them would be held.
    assert time.monotonic() - start < 30
