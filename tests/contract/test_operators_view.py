"""The operators' commands about jobs and workers, on a running service."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from getpass import getuser
from itertools import chain
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from provisioning.cli.main import cli
from provisioning.errors import CredentialsNotFound, JobFinished, JobNotFound
from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.events import newest_events
from provisioning.state.models import Credentials, Job
from tests.contract.conftest import ServiceMaker, new_project
from tests.contract.expectations import accepted_job
from tests.support.client import Client
from tests.support.deadlines import DEADLINE, ENDLESS, LONG_DEADLINE, wait_until
from tests.support.service import Service

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def idle(make_service: ServiceMaker) -> Iterator[Service]:
    with make_service({}) as service:
        yield service


def run(service: Service, *arguments: str, code: int = 0) -> str:
    result: Result = CliRunner().invoke(
        cli, arguments, env={**service.environment, "COLUMNS": "200"}
    )
    if isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def ids_in(table: str) -> list[int]:
    return [int(id_) for id_ in re.findall(r"^│ (\d+) ", table, re.MULTILINE)]


def ask_for_kill(client: Client) -> int:
    path = f"/provisioning/mysql/{client.create()['id']}/kill"
    return accepted_job(client.post(path, headers=ASYNC))


def change(service: Service, model: type[Job] | type[Credentials], id_: int, **to: object) -> None:
    with service.installation.database.write() as session:
        row = session.get_one(model, id_)
        for name, value in to.items():
            setattr(row, name, value)


def test_jobs_are_listed_shown_and_killed(idle: Service) -> None:
    project = new_project()
    client = idle.client(idle.token(project=project))
    first, second = ask_for_kill(client), ask_for_kill(client)
    change(idle, Job, first, failure="db1: connection refused", request="sealed")
    listed = run(idle, "jobs", "list", "--project", project, "--status", "waiting")
    assert "db1: connection refused" in listed
    assert ids_in(listed) == [second, first]
    assert ids_in(run(idle, "jobs", "list", "--project", project, "--limit", "1")) == [second]
    assert ids_in(run(idle, "jobs", "list", "--backend", "docker")) == []
    shown = run(idle, "jobs", "show", str(first))
    assert "failure: db1: connection refused" in shown and "status: waiting" in shown
    assert "sealed" not in shown
    assert "cancelled" in run(idle, "jobs", "kill", str(first))
    assert client.get(f"/queue/job/{first}").body["terminatedBy"]["id"] == f"operator:{getuser()}"


def test_a_pause_is_ended(idle: Service) -> None:
    client = idle.client()
    job = ask_for_kill(client)
    assert "does not pause" in run(idle, "jobs", "retry", str(job), code=1)
    change(idle, Job, job, not_before=now_ms() + 3_600_000)
    assert "notBefore" in client.get(f"/queue/job/{job}").body
    assert "tried again" in run(idle, "jobs", "retry", str(job))
    (told,) = newest_events(idle.installation.database, 1, job_id=job)
    assert (told.action, told.token_id) == ("job.retry_requested", f"operator:{getuser()}")
    assert client.get(f"/queue/job/{job}/events").body[-1]["event"] == "job.retry_requested"
    assert "notBefore" not in client.get(f"/queue/job/{job}").body
    run(idle, "jobs", "kill", str(job))
    assert "finished" in run(idle, "jobs", "retry", str(job), code=1)


def test_a_removal_that_was_left_behind_is_tried_again(idle: Service) -> None:
    client = idle.client()
    created = client.create()
    path = f"/provisioning/mysql/{created['id']}"
    job = accepted_job(client.post(f"{path}/kill", headers=ASYNC))
    run(idle, "jobs", "kill", str(job))
    left = {"state": CredentialsState.DROPPING, "slot": None, "not_before": now_ms() + 3_600_000}
    change(idle, Credentials, int(created["id"]), **left)
    assert "tried again" in run(idle, "jobs", "retry", str(job))
    with idle.installation.database.read() as session:
        assert session.get_one(Credentials, int(created["id"])).not_before == 0


def test_workers_are_found_by_their_claims_and_by_celery(idle: Service) -> None:
    """The Procfile's workers answer Celery's own tools, without gossip and mingling too."""
    assert "answering over the broker: nobody" in run(idle, "workers")
    job = ask_for_kill(idle.client())
    claim = {"claim_owner": "far:4211", "claim_until": now_ms() + 1000 * ENDLESS}
    change(idle, Job, job, status="processing", **claim)
    shown = run(idle, "workers")
    assert "far:4211" in shown and str(job) in shown
    processes = {"worker": [idle.start_worker() for _ in range(2)], "docker": [idle.start_docker()]}
    names = [f"{kind}-{process.pid}@" for kind in processes for process in processes[kind]]
    try:
        wait_until(
            lambda: all(name in run(idle, "workers") for name in names),
            what="an answer of every worker",
            timeout=LONG_DEADLINE,
        )
    finally:
        for process in chain.from_iterable(processes.values()):
            process.stop()


def test_what_cannot_be_done_is_said(idle: Service) -> None:
    for command in ("show", "kill", "retry"):
        with pytest.raises(JobNotFound, match="Job id '999999' not found."):
            run(idle, "jobs", command, "999999")
    job = ask_for_kill(idle.client())
    run(idle, "jobs", "kill", str(job))
    with pytest.raises(JobFinished, match="already finished"):
        run(idle, "jobs", "kill", str(job))


# Credentials ----------------------------------------------------------------------------


def test_credentials_are_listed_and_shown(idle: Service) -> None:
    project, other = new_project(), new_project()
    client = idle.client(idle.token(project=project))
    sandbox, transformations = client.create(), client.create("transformations")
    idle.client(idle.token(project=other)).create()
    newest = sorted((int(body["id"]) for body in (sandbox, transformations)), reverse=True)

    def listed(*filters: str) -> list[int]:
        return ids_in(run(idle, "credentials", "list", "--project", project, *filters))

    change(idle, Credentials, int(sandbox["id"]), expires_at=now_ms() + 5_400_000)
    assert listed() == newest
    assert listed("--limit", "1") == newest[:1]
    assert listed("--type", "sandbox", "--state", "active") == [int(sandbox["id"])]
    assert listed("--backend", "mysql", "--server", "default") == newest
    assert listed("--backend", "docker") == listed("--state", "dropped") == []
    assert listed("--expiring-within", "1") == []
    assert listed("--expiring-within", "2") == [int(sandbox["id"])]
    assert listed("--expiring-within", "1000") == [
        int(body["id"]) for body in (sandbox, transformations)
    ]
    shown = run(idle, "credentials", "show", sandbox["id"])
    with idle.installation.database.read() as session:
        row = session.get_one(Credentials, int(sandbox["id"]))
    assert f"user_name: {row.user_name}" in shown and "state: active" in shown
    assert f"token_id: {row.token_id}" in shown
    assert ids_in(run(idle, "credentials", "list", "--token", row.token_id)) == newest
    assert row.secret not in shown and sandbox["credentials"]["password"] not in shown


def test_the_answer_of_a_command_has_no_log_lines(idle: Service) -> None:
    number = idle.client().create()["id"]
    command = [Path(sys.executable).with_name("provisioning"), "credentials", "extend", number]
    environment = {**os.environ, **idle.environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert re.fullmatch(rf"credentials {number} end 20\S+\n", done.stdout)


def test_an_operator_extends_kills_and_drops_in_the_owners_place(idle: Service) -> None:
    client = idle.client(idle.token(limits={"components.jobsParallelism": 3}))
    created = client.create()
    number, path = created["id"], f"/provisioning/mysql/{created['id']}"
    assert "end 20" in run(idle, "credentials", "extend", number)
    assert client.get(path).body["touch"] > created["touch"]
    assert "kept until 20" in run(idle, "credentials", "protect", number, "7d")
    assert client.get(path).body["protectedUntil"][:2] == "20"
    assert "not protected" in run(idle, "credentials", "protect", number, "none")
    assert "protectedUntil" not in client.get(path).body
    printed = run(idle, "credentials", "reset-password", number, "--end-sessions")
    password = client.get(path).body["credentials"]["password"]
    assert password != created["credentials"]["password"] and password not in printed
    worker = idle.start_worker()
    try:
        assert "is success" in run(idle, "credentials", "kill", number, "--wait", str(DEADLINE))
        assert client.get(path).status == 200
        assert "is success" in run(idle, "credentials", "drop", number, "--wait", str(DEADLINE))
    finally:
        worker.stop()
    assert client.get(path).status == 404
    told = newest_events(idle.installation.database, 100, credentials_id=int(number))
    author = f"operator:{getuser()}"
    assert [event.action for event in told if event.token_id == author] == [
        "credentials.extended",
        "credentials.protected",
        "credentials.protected",
        "credentials.password_reset",
        "job.accepted",
        "job.accepted",
        "credentials.drop_requested",
    ]
    with idle.installation.database.read() as session:
        row = session.get_one(Credentials, int(number))
        jobs = session.scalars(select(Job).where(Job.credentials_id == row.id)).all()
    assert {(job.token_id, job.parallel_limit) for job in jobs} == {(row.token_id, 3)}
    for command in ("extend", "drop", "kill", "reset-password"):
        with pytest.raises(CredentialsNotFound):
            run(idle, "credentials", command, number)
        with pytest.raises(CredentialsNotFound):
            run(idle, "credentials", command, "999999999")


def test_a_drop_waits_for_a_worker_and_can_be_called_off(idle: Service) -> None:
    client = idle.client()
    created = client.create()
    number = created["id"]
    printed = run(idle, "credentials", "drop", number, "--wait", "1", code=1)
    waiting = re.fullmatch(r"job (\d+) is waiting\n", printed)
    assert waiting
    run(idle, "jobs", "kill", waiting[1])
    assert client.get(f"/provisioning/mysql/{number}").status == 200
    told = newest_events(idle.installation.database, 3, credentials_id=int(number))
    assert [(event.action, (event.detail or {}).get("after")) for event in told] == [
        ("credentials.drop_requested", {"state": "dropping"}),
        ("credentials.restored", {"state": "active"}),
        ("job.cancelled", None),
    ]
    assert {event.token_id for event in told} == {f"operator:{getuser()}"}
