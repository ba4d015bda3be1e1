"""What processes write: one form from the first line on, a line at the start, one per request."""

import json
import subprocess
from importlib.metadata import version
from typing import Any

import pytest

from devstack.procfile import procfile_commands, service_environment
from tests.contract.conftest import ServiceMaker
from tests.support.deadlines import DEADLINE
from tests.support.service import TREE, Service


def events(service: Service, event: str) -> list[dict[str, Any]]:
    """Return the lines of an event; each line that was written has to be JSON."""
    lines = [json.loads(line) for line in service.logs().splitlines() if line]
    return [line for line in lines if line["event"] == event]


def test_each_line_is_json_from_start_to_stop(make_service: ServiceMaker) -> None:
    with make_service({"DRAIN_SECONDS": "0"}, workers=1, beats=1) as service:
        token = service.token(project="777", person="1")
        client = service.client(token)
        created = client.create()
        assert client.delete(
            f"/provisioning/mysql/{created['id']}", headers={"X-KBC-RunId": "12.3"}
        ).body == {"status": "ok"}
        client.get("/nowhere")
        for process in (*service.fronts, *service.workers, *service.beats):
            process.stop()
    for line in events(service, "started"):
        assert line["version"] == version("provisioning-service")
        assert line["state"] == f"sqlite:///{service.directory}/state.db"
        assert line["broker"].startswith("redis://127.0.0.1:")
    started = {line["process"]: line for line in events(service, "started")}
    assert set(started) == {"web", "worker", "beat"}
    (address,) = started["web"]["listening"]
    assert address == f"http://127.0.0.1:{client.port}"
    # Health checks, such as those of the start, are not logged.
    made, dropped, lost = events(service, "request")
    assert (made["method"], made["route"]) == ("POST", "/provisioning/<backend:backend>")
    assert (made["status"], made["project"]) == (201, "777")
    assert made["ms"] >= 0 and made["token"] == dropped["token"]
    assert (dropped["run_id"], dropped["status"]) == ("12.3", 200)
    assert (lost["route"], lost["status"], lost["token"]) == (None, 404, None)


def test_the_lines_of_requests_can_be_switched_off(make_service: ServiceMaker) -> None:
    with make_service({"ACCESS_LOG": "off"}) as service:
        assert service.client().get("/provisioning/mysql").status == 404
    assert not events(service, "request")
    assert events(service, "request_refused")


@pytest.mark.parametrize("kind", ["web", "worker", "beat"])
def test_a_missing_setting_is_one_line(kind: str) -> None:
    ended = subprocess.run(
        ["sh", "-c", f"exec {procfile_commands()[kind]}"],
        env={**service_environment({}), "LOG_FORMAT": "json", "STATE_URL": ""},
        cwd=TREE,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (ended.returncode, ended.stdout) == (78, "")
    (line,) = ended.stderr.splitlines()
    assert json.loads(line)["problem"].startswith("STATE_URL is not set: ")
