"""Idempotency keys: what is repeated with one makes one job, for a day."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from werkzeug.test import TestResponse

from provisioning.background.sweep import sweep
from provisioning.installation import Installation
from provisioning.jobs.idempotency import KEPT
from provisioning.state.models import Job, RequestKey
from tests.sandbox.conftest import caller_of
from tests.sandbox.stand_in_engine import work_on

PATH = "/provisioning/async/docker"
BODY = {"type": "jupyter", "script": "print(1)", "input": {"tables": [{"source": "in.c-a.b"}]}}
MIXED = b'{"input": {"tables": [{"source":"in.c-a.b"}]},\n "script":"print(1)", "type":"jupyter"}'


def send(front: FlaskClient, key: str = "k-1", **options: Any) -> TestResponse:
    sent = options or {"json": BODY}
    return front.post(PATH, headers={"Idempotency-Key": key}, **sent)


def accepted(answer: TestResponse) -> int:
    assert answer.status_code == 202, answer.text
    assert answer.json is not None
    return int(answer.json["id"])


def require_invalid(answer: TestResponse, problem: str) -> None:
    assert answer.status_code == 400 and answer.json is not None
    assert answer.json["reason"] == "parameter_invalid"
    assert answer.json["message"] == f"Parameter 'Idempotency-Key' is invalid: {problem}"


def jobs_of(installation: Installation) -> int:
    with installation.database.read() as session:
        return session.execute(select(func.count()).select_from(Job)).scalar_one()


def test_an_equal_request_gets_the_same_job(installation: Installation, front: FlaskClient) -> None:
    job_id = accepted(send(front))
    assert accepted(send(front, data=MIXED)) == job_id, "the form of the body does not matter"
    work_on(installation, job_id)
    again = send(front)
    assert accepted(again) == job_id and again.json is not None
    assert again.json["status"] in ("success", "error")
    assert jobs_of(installation) == 1


def test_another_key_token_or_none_gets_another_job(
    installation: Installation, front: FlaskClient
) -> None:
    answers = [send(front), send(front, "k-2"), send(caller_of(installation)), send(front, "")]
    answers.append(front.post(PATH, json=BODY))
    assert len({accepted(answer) for answer in answers}) == 5


def test_the_same_key_with_another_body_is_refused(
    installation: Installation, front: FlaskClient
) -> None:
    accepted(send(front))
    for body in ({"type": "rstudio"}, {**BODY, "script": "print(2)"}):
        require_invalid(send(front, json=body), "it came with another body before")
    transformation = {"config_id": "1", "config_version": "1", "row_id": "1"}
    answer = front.post(
        f"{PATH}/transformation",
        json={"transformation": transformation},
        headers={"Idempotency-Key": "k-1"},
    )
    require_invalid(answer, "it came with another body before")
    assert jobs_of(installation) == 1


@pytest.mark.parametrize("key", ["a b", "x" * 256, "ü"])
def test_a_key_of_another_form_is_refused(front: FlaskClient, key: str) -> None:
    require_invalid(send(front, key), "1 to 255 visible ASCII characters are expected")


def test_of_repeats_at_the_same_moment_one_makes_a_job(
    installation: Installation, front: FlaskClient
) -> None:
    callers = [front.application.test_client() for _ in range(8)]
    for caller in callers:
        caller.environ_base.update(front.environ_base)
    with ThreadPoolExecutor(8) as pool:
        assert len({accepted(answer) for answer in pool.map(send, callers)}) == 1
    assert jobs_of(installation) == 1


def test_a_key_is_forgotten_after_a_day(installation: Installation, front: FlaskClient) -> None:
    def grow_old() -> None:
        with installation.database.write() as session:
            session.execute(update(RequestKey).values(created_at=RequestKey.created_at - KEPT))

    first = accepted(send(front))
    grow_old()
    second = accepted(send(front))
    assert second != first and accepted(send(front)) == second
    grow_old()
    sweep(installation)
    with installation.database.read() as session:
        assert session.execute(select(RequestKey)).first() is None
