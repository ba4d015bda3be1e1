"""What is recorded of credentials and jobs, and what callers read of it."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import update

from devstack.mariadb import MariaDB
from provisioning.background.job_runner import run_job
from provisioning.cli.main import cli
from provisioning.state import failpoints
from provisioning.state.events import newest_events
from provisioning.state.models import Credentials, Event, Job
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import (
    TIME,
    accepted_job,
    finished_job,
    require_error,
    require_headers,
)
from tests.contract.server_look import run_as_root
from tests.support.client import Client
from tests.support.deadlines import wait_until
from tests.support.service import Service

ASYNC = {"Prefer": "respond-async"}
KEYS = {
    "id", "time", "event", "message", "step", "percent", "attempt", "durationSeconds", "worker",
    "token", "credentialsId", "detail",
}  # fmt: skip


def path_of(body: dict[str, Any]) -> str:
    return f"/provisioning/mysql/{body['id']}"


def recorded(service: Service, credentials_id: str) -> Sequence[Event]:
    return newest_events(service.installation.database, 100, credentials_id=int(credentials_id))


def actions(events: Sequence[Event]) -> list[str]:
    return [event.action for event in events]


def events_of(client: Client, job: int, after: str = "") -> list[dict[str, Any]]:
    answer = client.get(f"/queue/job/{job}/events{after}")
    assert answer.status == 200, answer
    require_headers(answer)
    body: list[dict[str, Any]] = answer.body
    return body


# The audit ------------------------------------------------------------------------------


def test_the_life_of_a_credential_is_recorded(service: Service, project: str) -> None:
    client = service.client(service.token(project=project))
    answer = client.post("/provisioning/mysql", headers={"X-KBC-RunId": "17.4"})
    created, path = answer.body, path_of(answer.body)
    extended = client.post(f"{path}/extend", headers={"X-KBC-RunId": "18"}).body
    assert client.post(f"{path}/kill").status == 200
    assert client.delete(path).status == 200
    events = recorded(service, created["id"])
    assert actions(events) == [
        "credentials.created", "credentials.extended",
        "job.accepted", "job.started", "sessions.killed", "job.succeeded",
        "job.accepted", "credentials.drop_requested", "job.started", "credentials.dropped",
        "job.succeeded",
    ]  # fmt: skip
    assert [event.time for event in events] == sorted(event.time for event in events)
    assert {event.project_id for event in events} == {project}
    assert len({event.token_id for event in events}) == 1
    making, extending, *jobs = events
    assert (making.run_id, making.job_id) == ("17.4", None)
    assert making.detail == {
        "backend": "mysql",
        "type": "transformations",
        "before": {"state": "creating"},
        "after": {"state": "active"},
    }
    assert making.duration is not None and making.duration >= 0
    assert re.fullmatch(r"[^:]+:\d+", making.worker)
    before = {key: created[key] for key in ("touch", "expiration")}
    after = {key: extended[key] for key in ("touch", "expiration")}
    assert (extending.run_id, extending.detail) == ("18", {"before": before, "after": after})
    assert len({event.job_id for event in jobs}) == 2 and None not in {e.job_id for e in jobs}
    assert all(event.failure is None for event in events)


def test_what_expired_is_recorded_with_its_end(service: Service, client: Client) -> None:
    created = client.create()
    with service.installation.database.write() as session:
        past = update(Credentials).where(Credentials.id == int(created["id"]))
        session.execute(past.values(expires_at=1_700_000_000_000))
    wait_until(
        lambda: actions(recorded(service, created["id"]))[-1:] == ["job.succeeded"],
        what="the removal of what expired",
    )
    events = {event.action: event for event in recorded(service, created["id"])}
    assert events["credentials.expired"].detail == {
        "expiration": "2023-11-14T22:13:20+00:00",
        "before": {"state": "active"},
        "after": {"state": "dropping"},
    }
    assert events["credentials.expired"].job_id == events["credentials.dropped"].job_id


def test_what_vanished_is_recorded(service: Service, client: Client, mariadb: MariaDB) -> None:
    created = client.create("transformations")
    run_as_root(mariadb, f"DROP USER `{created['credentials']['user']}`@'%'")
    assert client.create("transformations")["id"] != created["id"]
    wait_until(
        lambda: actions(recorded(service, created["id"]))[-1:] == ["credentials.dropped"],
        what="the removal of what is left of it",
    )
    assert "credentials.vanished" in actions(recorded(service, created["id"]))


# A job's events -------------------------------------------------------------------------


def test_the_events_of_a_job_tell_its_whole_course(client: Client) -> None:
    created = client.create()
    job = accepted_job(client.post(f"{path_of(created)}/kill", headers=ASYNC))
    record = finished_job(client, job)
    events = events_of(client, job)
    assert [event["event"] for event in events] == [
        "job.accepted", "job.started", "sessions.killed", "job.succeeded",
    ]  # fmt: skip
    for event in events:
        assert set(event) == KEYS
        assert type(event["id"]) is int and TIME.fullmatch(event["time"])
        assert event["message"] and isinstance(event["detail"], dict)
        assert event["token"] == {"id": record["token"]["id"]}
        assert event["credentialsId"] == int(created["id"])
    _, started, killed, _ = events
    assert started["attempt"] == 1 and started["worker"] == record["process"]
    assert killed["detail"] == {"sessions": 0} and killed["durationSeconds"] >= 0
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    assert client.get(f"/queue/jobs/{job}/events").body == events
    assert events_of(client, job, f"?after={started['id']}") == events[2:]
    assert events_of(client, job, "?after=") == events_of(client, job, "?after=0") == events


def test_events_are_for_tokens_of_the_jobs_project(service: Service, client: Client) -> None:
    job = accepted_job(client.post(f"{path_of(client.create())}/kill", headers=ASYNC))
    for id_ in (str(job), "999999999", "x"):
        answer = service.client().get(f"/queue/job/{id_}/events")
        require_error(answer, 404, "job_not_found", f"Job id '{id_}' not found.")
    for after in ("x", "-1", "1.5", "9" * 30):
        answer = client.get(f"/queue/job/{job}/events?after={after}")
        message = "Parameter 'after' is invalid: the id of an event is expected"
        require_error(answer, 400, "query_invalid", message)


@pytest.fixture(scope="module")
def idle(make_service: ServiceMaker) -> Iterator[Service]:
    """A service without a worker, whose jobs run when the test says so."""
    with make_service({}) as service:
        yield service


def fail_attempt(service: Service, job: int, armed: Path) -> None:
    """Run a job that fails, and let the pause after it be over."""
    armed.write_text("error")
    run_job(service.installation, job, ["mysql"])
    assert not armed.exists()
    with service.installation.database.write() as session:
        session.execute(update(Job).where(Job.id == job).values(not_before=0))


def let_time_be_over(service: Service, job: int) -> None:
    """Let the job have been tried for as long as it may be."""
    long_ago = Job.started_at - 24 * 3600 * 1000
    with service.installation.database.write() as session:
        session.execute(update(Job).where(Job.id == job).values(started_at=long_ago))


def test_callers_read_of_failures_in_safe_words_and_operators_in_full(
    idle: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failpoints, "_DIRECTORY", str(tmp_path))
    client = idle.client()
    job = accepted_job(client.post(f"{path_of(client.create())}/kill", headers=ASYNC))
    fail_attempt(idle, job, tmp_path / "kill.sessions")
    let_time_be_over(idle, job)
    fail_attempt(idle, job, tmp_path / "kill.sessions")
    record = finished_job(client, job)
    events = events_of(client, job)
    assert [event["event"] for event in events] == [
        "job.accepted", "job.started", "job.delayed", "job.started", "job.failed",
    ]  # fmt: skip
    _, _, delayed, again, failed = events
    assert delayed["message"] == "An attempt failed; the job is tried again"
    assert delayed["detail"] == {"reason": "internal"}
    assert (delayed["attempt"], again["attempt"]) == (1, 2)
    assert failed["message"] == record["result"]["message"]
    exception_id = record["result"]["exceptionId"]
    assert failed["detail"] == {"error": "application", "exceptionId": exception_id}
    assert "FailpointError" not in client.get(f"/queue/job/{job}/events").text
    printed = CliRunner().invoke(
        cli, ["events", "--job", str(job)], env={**os.environ, **idle.environment}
    )
    lines = [json.loads(line) for line in printed.stdout.splitlines()]
    assert [line["id"] for line in lines] == [event["id"] for event in events]
    assert [line["failure"] for line in lines] == [
        None,
        None,
        "FailpointError",
        None,
        "FailpointError",
    ]
