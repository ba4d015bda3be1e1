"""Steps that fail or hang in the middle, by fail-points (contract 3, 6.1, 7.2)."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from devstack.mariadb import MariaDB
from devstack.processes import descendants
from tests.contract.conftest import ServiceMaker, new_project
from tests.contract.expectations import (
    INTERNAL,
    accepted_job,
    finished_job,
    require_error,
    require_not_found,
)
from tests.contract.server_look import databases_of_project, require_login, run_as_root
from tests.support.client import Client
from tests.support.deadlines import DEADLINE, wait_until
from tests.support.service import Service

#: Seconds; far less than the default of two minutes.
LIMIT = 3
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("failpoints")


@pytest.fixture(scope="module")
def failing(make_service: ServiceMaker, points: Path) -> Iterator[Service]:
    environment = {
        "PROVISIONING_FAILPOINTS": str(points),
        "CREATION_LIMIT_SECONDS": str(LIMIT),
        "CLAIM_SECONDS": "20",
        "JOB_RETRY_SECONDS": "0",
    }
    with make_service(environment, fronts=2, workers=1, beats=1) as service:
        yield service


def path_of(body: dict[str, Any]) -> str:
    return f"/provisioning/mysql/{body['id']}"


def require_taken(points: Path, name: str) -> None:
    assert not (points / name).exists(), f"the fail-point {name} was not reached"


def test_an_unexpected_failure_is_500_and_says_nothing(failing: Service, points: Path) -> None:
    client = failing.client()
    path = path_of(client.create())
    (points / "extend.committed").write_text("error")
    answer = client.post(f"{path}/extend", headers={"X-KBC-RunId": "12.3"})
    require_taken(points, "extend.committed")
    error = require_error(answer, 500, "internal", INTERNAL, run_id=12)
    assert error["exceptionId"] in failing.logs()
    assert client.post(f"{path}/extend").status == 200


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
@pytest.mark.parametrize(
    "point", ["create.locked", "create.database", "create.login", "create.grant", "create.verified"]
)
def test_a_failed_creation_leaves_nothing_and_a_repeat_starts_clean(
    failing: Service, points: Path, mariadb: MariaDB, type_: str, point: str
) -> None:
    project = new_project()
    client = failing.client(failing.token(project=project, person=project))
    (points / point).write_text("error")
    answer = client.post("/provisioning/mysql", {"type": type_})
    require_taken(points, point)
    require_error(answer, 500, "internal", INTERNAL)
    assert databases_of_project(mariadb, project) == []
    assert users_of_project(mariadb, project) == []
    require_not_found(client.get(f"/provisioning/mysql?type={type_}"))
    repeated = client.create(type_)
    require_login(repeated["credentials"])
    assert databases_of_project(mariadb, project) == [repeated["credentials"]["db"]]


def users_of_project(mariadb: MariaDB, project: str) -> list[str]:
    rows = run_as_root(mariadb, "SELECT User FROM mysql.global_priv")
    return [name for (name,) in rows if f"_{project}" in name]


def test_a_create_that_takes_too_long_answers_503_and_goes_on(
    failing: Service, points: Path
) -> None:
    token = failing.token(project=new_project())
    first, second = failing.client(token, front=0), failing.client(token, front=1)
    (points / "create.database").write_text("pause")
    with ThreadPoolExecutor(1) as pool:
        creation = pool.submit(first.post, "/provisioning/mysql", {"type": "sandbox"})
        wait_until(lambda: not (points / "create.database").exists(), what="the pause")
        try:
            require_not_found(second.get("/provisioning/mysql?type=sandbox"))
            start = time.monotonic()
            answer = second.post("/provisioning/mysql", {"type": "sandbox"})
            assert LIMIT <= time.monotonic() - start < LIMIT + DEADLINE
        finally:
            resume(failing.fronts[0].pid)
        created = creation.result()
    message = "Credentials are being created, repeat the request."
    require_error(answer, 503, "creation_in_progress", message)
    assert created.status in (201, 503)
    repeated = second.create("sandbox")
    require_login(repeated["credentials"])
    if created.status == 201:
        assert created.body == repeated


def resume(pid: int) -> None:
    """Let a front and the processes below it go on."""
    for each in (pid, *descendants(pid)):
        os.kill(each, signal.SIGCONT)


@pytest.mark.parametrize("command,point", [("kill", "kill.sessions"), ("delete", "drop.locked")])
def test_a_job_that_fails_is_500_to_its_caller_and_an_error_in_its_record(
    failing: Service, points: Path, command: str, point: str
) -> None:
    client = failing.client()
    created = client.create("transformations")
    path = path_of(created)
    (points / point).write_text("error")
    answer = client.post(f"{path}/kill") if command == "kill" else client.delete(path)
    require_taken(points, point)
    require_error(answer, 500, "internal", INTERNAL)
    # After an error the credential is visible again, and a repeat is harmless.
    assert client.get(path).body["credentials"] == created["credentials"]
    require_login(created["credentials"])
    (points / point).write_text("error")
    accepted = (
        client.post(f"{path}/kill", headers=ASYNC)
        if command == "kill"
        else client.delete(path, headers=ASYNC)
    )
    record = finished_job(client, accepted_job(accepted))
    require_error_record(record, failing, client)
    repeated = client.post(f"{path}/kill") if command == "kill" else client.delete(path)
    assert repeated.body == {"status": "ok"}


def require_error_record(record: dict[str, Any], service: Service, client: Client) -> None:
    assert record["status"] == "error" and record["isFinished"] is True
    assert record["error"] == "application"
    assert set(record["result"]) == {"message", "exceptionId"}
    assert record["result"]["message"] == "Internal error occurred, please contact support"
    assert record["result"]["exceptionId"].startswith("provisioning-")
    assert record["result"]["exceptionId"] in service.logs()
    assert record["endTime"] is not None and type(record["durationSeconds"]) is int
