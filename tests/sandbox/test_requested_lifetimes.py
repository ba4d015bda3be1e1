"""``ttl`` of sandboxes: it goes with the job that makes them."""

from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from provisioning.installation import Installation
from tests.sandbox.stand_in_engine import work_on
from tests.sandbox.test_schemas import ROW

PATH = "/provisioning/async/docker"
FIVE_DAYS = 5 * 86_400


def run(installation: Installation, front: FlaskClient, body: dict[str, Any]) -> dict[str, Any]:
    """Create a sandbox and return the record of its job."""
    answer = front.post(PATH, json=body)
    assert answer.status_code == 202 and answer.json is not None, answer.text
    work_on(installation, answer.json["id"])
    record: dict[str, Any] = front.get(f"/queue/job/{answer.json['id']}").get_json()
    assert record["status"] == "success", record
    return record


def lifetime(result: dict[str, Any]) -> float:
    touched: float = result["touch"]
    return datetime.fromisoformat(result["expiration"]).timestamp() - touched


def test_a_sandbox_lives_as_long_as_it_is_asked_to(
    installation: Installation, front: FlaskClient
) -> None:
    record = run(installation, front, {"type": "jupyter", "ttl": 600})
    assert record["params"] == {"backend": "docker", "type": "jupyter", "input": [], "ttl": 600}
    assert lifetime(record["result"]) == 600
    again = run(installation, front, {"type": "jupyter", "ttl": 60})
    assert again["result"]["expiration"] == record["result"]["expiration"], "it is left as it is"
    path = f"/provisioning/docker/{record['result']['credentials']['id']}/extend"
    shorter = front.post(path, json={"ttl": 60}).get_json()
    assert shorter["touch"] > record["result"]["touch"] and lifetime(shorter) == 60
    assert lifetime(front.post(path).get_json()) == FIVE_DAYS


@pytest.mark.parametrize("end, body", [("", {"type": "rstudio"}), ("/transformation", ROW)])
def test_more_than_the_lifetime_is_refused_with_no_job(
    front: FlaskClient, end: str, body: dict[str, Any]
) -> None:
    body = {"transformation": body} if end else body
    answer = front.post(f"{PATH}{end}", json={**body, "ttl": FIVE_DAYS + 1})
    assert answer.status_code == 400
    message = f"Parameter 'ttl' is invalid: at most {FIVE_DAYS} seconds are allowed"
    assert answer.get_json()["message"] == message
    assert front.get("/queue/jobs").get_json() == []
    assert front.post(f"{PATH}{end}", json={**body, "ttl": FIVE_DAYS}).status_code == 202
