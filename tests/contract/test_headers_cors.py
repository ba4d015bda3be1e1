"""Headers of every answer, and OPTIONS (contract 2.1)."""

import pytest

from tests.contract.expectations import require_headers
from tests.support.client import Client
from tests.support.service import Service


def test_good_answers_carry_the_headers(client: Client) -> None:
    created = client.post("/provisioning/mysql", {"type": "sandbox"})
    path = f"/provisioning/mysql/{created.body['id']}"
    answers = [
        created,
        client.get(path),
        client.get("/provisioning/mysql?type=sandbox"),
        client.post(f"{path}/extend"),
        client.post(f"{path}/kill"),
        client.post(f"{path}/kill", headers={"Prefer": "respond-async"}),
        client.delete(path),
        client.get("/health/live"),
        client.get("/health/ready"),
    ]
    assert [answer.status for answer in answers] == [201, 200, 200, 200, 200, 202, 200, 200, 200]
    for answer in answers:
        require_headers(answer)
        assert answer.body


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://web.example.com"}])
def test_the_headers_do_not_depend_on_an_origin(client: Client, headers: dict[str, str]) -> None:
    require_headers(client.get("/provisioning/mysql", headers=headers))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/provisioning/mysql",
        "/provisioning/mysql/",
        "/provisioning/mysql/1/extend",
        "/provisioning/async",
        "/provisioning/async/docker",
        "/provisioning/manage",
        "/provisioning/oracle",
        "/queue/job/1",
        "/queue/jobs",
        "/health/live",
        "/no/such/place//",
        "/%00%ff",
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-StorageApi-Token": "wrong"},
        {
            "Origin": "https://web.example.com",
            "Access-Control-Request-Method": "DELETE",
            "Access-Control-Request-Headers": "x-storageapi-token",
        },
    ],
    ids=["plain", "bad token", "preflight"],
)
def test_options_is_answered_on_any_path_without_a_token(
    service: Service, path: str, headers: dict[str, str]
) -> None:
    answer = service.anonymous()("OPTIONS", path, headers=headers)
    assert answer.status == 200
    found = {name: answer.headers.get_all(name) for name in sorted(EXPECTED_ON_OPTIONS)}
    assert found == {name: [value] for name, value in EXPECTED_ON_OPTIONS.items()}


EXPECTED_ON_OPTIONS = {
    "Access-Control-Allow-Headers": "content-type, x-requested-with, x-requested-by, "
    "x-storageapi-url, x-storageapi-token, x-kbc-runid, x-user-agent, prefer",
    "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Max-Age": "86400",
    "Cache-Control": "private, no-cache, no-store, must-revalidate",
    "Content-Type": "application/json",
}


def test_options_does_not_read_its_body(service: Service) -> None:
    answer = service.anonymous()("OPTIONS", "/provisioning/mysql", b"{" * 10_000)
    assert answer.status == 200
