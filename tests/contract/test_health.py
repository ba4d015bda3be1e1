"""/health, and the maintenance mode (contract sections 3 and 13)."""

from collections.abc import Iterator

import pytest

from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import require_error, require_headers
from tests.support.service import Service

TEXT = "Back at 14:00 UTC."


def test_health_needs_no_token(service: Service) -> None:
    for front in (0, 1):
        for path in ("/health/live", "/health/ready"):
            answer = service.anonymous(front=front).get(path)
            assert (answer.status, answer.body) == (200, {"status": "ok"})
            require_headers(answer)
            assert service.anonymous(front=front)("HEAD", path).status == 200


def test_health_takes_get_alone(service: Service) -> None:
    answer = service.anonymous().post("/health/live")
    require_error(answer, 405, "method_not_allowed", "Method POST is not allowed.")


@pytest.fixture(scope="module")
def maintained(make_service: ServiceMaker) -> Iterator[Service]:
    environment = {"MAINTENANCE_MESSAGE": TEXT, "RETRY_AFTER_SECONDS": "7"}
    with make_service(environment) as service:
        yield service


@pytest.mark.parametrize(
    "method,path",
    [
        ("POST", "/provisioning/mysql"),
        ("GET", "/provisioning/mysql"),
        ("GET", "/provisioning/mysql/1"),
        ("POST", "/provisioning/mysql/1/extend"),
        ("POST", "/provisioning/mysql/1/kill"),
        ("DELETE", "/provisioning/mysql/1"),
        ("GET", "/queue/job/1"),
    ],
)
def test_maintenance_answers_every_call_with_the_configured_text(
    maintained: Service, method: str, path: str
) -> None:
    answer = maintained.client()(method, path)
    require_error(answer, 503, "maintenance", TEXT)
    assert answer.headers["Retry-After"] == "7"


def test_maintenance_leaves_routes_options_and_health_as_they_are(maintained: Service) -> None:
    client = maintained.client()
    require_error(client.get("/nowhere"), 404, "route_not_found", "Route not found")
    assert client("OPTIONS", "/provisioning/mysql").status == 200
    assert client.get("/health/live").status == 200
    assert client.get("/health/ready").status == 200
