"""Limits of sandboxes, which hold when one is asked for; the engine is a stand-in."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from api.app import create_app
from provisioning.access.tokens import LocalTokens
from provisioning.installation import Installation
from provisioning.sandbox.request import LoadPlan
from provisioning.state.enums import CredentialsState
from provisioning.state.events import newest_events
from provisioning.state.models import Credentials, Job
from tests.sandbox.stand_in_engine import work_on

PATH = "/provisioning/async/docker"
TRANSFORMATION = {"config_id": "1", "config_version": "1", "row_id": "1"}
REACHED = "The {}'s limit of {} live containers is reached: {} used."


def callers(installation: Installation, amount: int, **limits: int) -> list[FlaskClient]:
    """Return callers with a token each, of one project with these limits."""
    found = []
    for _ in range(amount):
        _, token = LocalTokens(installation.database).create(
            project_id="70",
            project_name="P",
            person_id=None,
            description="",
            features=[],
            limits={f"provisioning.{name}": value for name, value in limits.items()},
        )
        client = create_app(installation).test_client()
        client.environ_base["HTTP_X_STORAGEAPI_TOKEN"] = token.reveal()
        found.append(client)
    return found


def order(caller: FlaskClient, type_: str = "jupyter", **headers: str) -> TestResponse:
    return caller.post(PATH, json={"type": type_}, headers=headers)


def transform(caller: FlaskClient) -> TestResponse:
    return caller.post(f"{PATH}/transformation", json={"transformation": TRANSFORMATION})


def accepted(answer: TestResponse) -> int:
    assert answer.status_code == 202 and answer.json is not None, answer.text
    return int(answer.json["id"])


def require_refused(answer: TestResponse, message: str) -> None:
    assert answer.json is not None
    found = {key: answer.json[key] for key in ("code", "reason", "message", "status", "error")}
    assert found == {
        "code": 403,
        "reason": "quota_exceeded",
        "message": message,
        "status": "error",
        "error": "User error",
    }


def jobs_of(installation: Installation) -> int:
    with installation.database.read() as session:
        return session.execute(select(func.count()).select_from(Job)).scalar_one()


def test_jobs_that_wait_count_and_a_refused_one_is_not_recorded(
    installation: Installation,
) -> None:
    many = callers(installation, 10, containers=3)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(order, many))
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len(refused) == 7
    for answer in refused:
        require_refused(answer, REACHED.format("project", 3, 3))
    assert jobs_of(installation) == 3
    for answer in answers:
        if answer.status_code == 202:
            work_on(installation, accepted(answer))
    require_refused(order(many[answers.index(refused[0])]), REACHED.format("project", 3, 3))


def test_what_is_there_or_on_its_way_is_not_refused(installation: Installation) -> None:
    (caller,) = callers(installation, 1, **{"token.containers": 1})
    first = accepted(order(caller))
    second = accepted(order(caller))
    require_refused(order(caller, "rstudio"), REACHED.format("token", 1, 1))
    work_on(installation, first)
    work_on(installation, second)
    work_on(installation, accepted(order(caller)))
    assert len(credentials_of(installation)) == 1


def test_who_deletes_has_made_room_at_once(installation: Installation) -> None:
    (caller,) = callers(installation, 1, **{"token.containers": 1, "credentials": 1})
    work_on(installation, accepted(order(caller)))
    path = f"{PATH}/{credentials_of(installation)[0].id}"
    assert caller.delete(path).status_code == 200
    # Nobody has removed it yet.
    accepted(order(caller, "rstudio"))
    require_refused(order(caller), "The project's limit of 1 live credentials is reached: 1 used.")


def test_a_creation_that_fails_gives_its_place_back(
    installation: Installation, engine: Any
) -> None:
    def refuse() -> None:
        raise RuntimeError

    first, second = callers(installation, 2, containers=1)
    engine.on_build = refuse
    job = accepted(order(first))
    require_refused(order(second), REACHED.format("project", 1, 1))
    with installation.database.write() as session:
        session.execute(update(Job).values(attempts=10**6))
    work_on(installation, job)
    accepted(order(second))


def test_a_transformation_that_needs_one_more_than_there_may_be_ends_in_an_error(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it needs is in a row that the worker reads, so it may well be what is there."""
    caller, other = callers(installation, 2, containers=1)
    work_on(installation, accepted(order(caller)))
    plan(monkeypatch, "jupyter", "rstudio")
    require_refused(transform(other), REACHED.format("project", 1, 1))
    same, another = accepted(transform(caller)), accepted(transform(caller))
    work_on(installation, same)
    work_on(installation, another)
    assert record_of(caller, same)["status"] == "success"
    record = record_of(caller, another)
    assert (record["status"], record["error"]) == ("error", "user")
    assert record["result"]["message"] == REACHED.format("project", 1, 1)
    assert len(credentials_of(installation)) == 1


def test_a_transformation_that_was_accepted_first_has_its_place(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = callers(installation, 2, **{"containers": 2, "containers.soft": 1})
    work_on(installation, accepted(order(second)))
    plan(monkeypatch, "jupyter", "rstudio")
    early, late = accepted(transform(first)), accepted(transform(second))
    work_on(installation, early)
    work_on(installation, late)
    statuses = [
        record_of(caller, job)["status"] for caller, job in ((first, early), (second, late))
    ]
    assert statuses == ["success", "error"]
    # The soft limit was passed when the early one was accepted, and only then.
    assert len(newest_events(installation.database, 9, action="quota.soft_limit")) == 1


def plan(monkeypatch: pytest.MonkeyPatch, *types: str) -> None:
    """Let the next transformations be of these types."""
    plans = iter(map(LoadPlan, types))
    monkeypatch.setattr(
        "provisioning.sandbox.creation.make_plan", lambda request, storage: next(plans)
    )


def record_of(caller: FlaskClient, job: int) -> dict[str, Any]:
    record: dict[str, Any] = caller.get(f"/queue/job/{job}").get_json()
    return record


def credentials_of(installation: Installation) -> list[Credentials]:
    query = select(Credentials).where(Credentials.state == CredentialsState.ACTIVE)
    with installation.database.read() as session:
        return list(session.scalars(query))


def test_a_soft_limit_warns_in_the_answer(installation: Installation) -> None:
    first, second = callers(installation, 2, **{"containers.soft": 1})
    for caller, warning in (
        (first, {}),
        (
            second,
            {"quotaWarning": "The project uses 2 live containers, above its soft limit of 1."},
        ),
    ):
        body = order(caller, **{"Idempotency-Key": "k"}).json
        assert body is not None
        keys = {"id", "url", "status"}
        assert {key: body[key] for key in body.keys() - keys} == warning
    assert jobs_of(installation) == 2
