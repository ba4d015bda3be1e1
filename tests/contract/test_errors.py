"""The error table (contract section 3), row by row where no special service is needed."""

import json
from typing import Any

import pytest

from tests.contract.expectations import require_error, require_not_found, require_unavailable
from tests.support.client import Answer, Client
from tests.support.service import Service

MYSQL_TYPES = "transformations,sandbox"
WORKSPACE_TYPES = "transformations,sandbox,writer,luckyguess"
DOCKER_TYPES = "jupyter,rstudio"
ALLOWED = {
    "mysql": MYSQL_TYPES,
    "snowflake": WORKSPACE_TYPES,
    "redshift-workspace": WORKSPACE_TYPES,
    "docker": DOCKER_TYPES,
}
WITHOUT_SERVER = ("snowflake", "redshift-workspace")


def require_type_invalid(answer: Answer, type_: str, backend: str) -> None:
    message = (
        f"Type '{type_}' is not supported by backend '{backend}'. "
        f"Allowed types are '{ALLOWED[backend]}'."
    )
    require_error(answer, 400, "type_invalid", message)


@pytest.mark.parametrize("token", [None, "", "   "])
def test_without_a_token(service: Service, token: str | None) -> None:
    headers = {} if token is None else {"X-StorageApi-Token": token}
    for method, path in (
        ("POST", "/provisioning/mysql"),
        ("GET", "/provisioning/mysql"),
        ("GET", "/provisioning/mysql/1"),
        ("POST", "/provisioning/mysql/1/extend"),
        ("POST", "/provisioning/mysql/1/kill"),
        ("DELETE", "/provisioning/mysql/1"),
        ("GET", "/queue/job/1"),
        ("GET", "/queue/jobs/1"),
    ):
        answer = service.anonymous()(method, path, headers=headers)
        require_error(answer, 400, "token_missing", "Missing StorageAPI token")


def test_with_a_token_that_is_refused(service: Service) -> None:
    answer = service.client("70-1-wrong").post("/provisioning/mysql")
    require_error(answer, 401, "token_invalid", "Invalid StorageApi Token")


@pytest.mark.parametrize("backend", ["oracle", "redshift", "MySQL", "mysql ", "x'y", "undefined"])
@pytest.mark.parametrize(
    "method,end",
    [
        ("POST", ""),
        ("GET", ""),
        ("GET", "/1"),
        ("POST", "/1/extend"),
        ("POST", "/1/kill"),
        ("DELETE", "/1"),
    ],
)
def test_an_unknown_backend_is_never_404(
    client: Client, method: str, end: str, backend: str
) -> None:
    answer = client(method, f"/provisioning/{backend.replace(' ', '%20')}{end}")
    require_error(answer, 400, "backend_unknown", f"Backend '{backend}' not found.")


@pytest.mark.parametrize("type_", ["read", "write", "", "Sandbox", "sandbox ", "writer", "jupyter"])
def test_a_type_mysql_lacks(client: Client, type_: str) -> None:
    require_type_invalid(client.post("/provisioning/mysql", {"type": type_}), type_, "mysql")
    query = type_.replace(" ", "%20")
    require_type_invalid(client.get(f"/provisioning/mysql?type={query}"), type_, "mysql")


@pytest.mark.parametrize("backend", ALLOWED)
@pytest.mark.parametrize("type_", ["read", "write", "", "nonsense"])
def test_a_bad_type_is_400_on_get_of_every_backend(
    client: Client, backend: str, type_: str
) -> None:
    answer = client.get(f"/provisioning/{backend}?type={type_}")
    require_type_invalid(answer, type_, backend)


@pytest.mark.parametrize("backend", WITHOUT_SERVER)
@pytest.mark.parametrize("type_", ["read", "write", "", "jupyter"])
def test_a_bad_type_is_400_on_create_without_a_server(
    client: Client, backend: str, type_: str
) -> None:
    answer = client.post(f"/provisioning/{backend}", {"type": type_})
    require_type_invalid(answer, type_, backend)


@pytest.mark.parametrize("type_", [5, True, 1.5, [], ["sandbox"], {}, {"a": 1}])
def test_a_type_of_wrong_form_names_the_parameter(client: Client, type_: Any) -> None:
    answer = client.post("/provisioning/mysql", {"type": type_})
    error = require_error(answer, 400, "parameter_invalid", None)
    assert "'type'" in error["message"]


def test_docker_is_async_only_on_create_delete_and_kill(client: Client) -> None:
    message = "Backend 'docker' supports only async actions."
    for answer in (
        client.post("/provisioning/docker", {"type": "jupyter"}),
        client.delete("/provisioning/docker/1"),
        client.post("/provisioning/docker/1/kill"),
    ):
        require_error(answer, 400, "backend_async_only", message)


def test_docker_reads_and_extends_find_nothing(client: Client) -> None:
    require_not_found(client.get("/provisioning/docker"))
    require_not_found(client.get("/provisioning/docker?type=jupyter"))
    require_not_found(client.get("/provisioning/docker?type=rstudio"))
    require_not_found(client.get("/provisioning/docker/1"))
    require_not_found(client.post("/provisioning/docker/1/extend"))
    require_type_invalid(
        client.get("/provisioning/docker?type=transformations"), "transformations", "docker"
    )


@pytest.mark.parametrize("backend", WITHOUT_SERVER)
def test_a_known_backend_without_a_server(client: Client, backend: str) -> None:
    for type_ in (None, *WORKSPACE_TYPES.split(",")):
        body = {} if type_ is None else {"type": type_}
        require_unavailable(client.post(f"/provisioning/{backend}", body), backend)
        query = "" if type_ is None else f"?type={type_}"
        require_not_found(client.get(f"/provisioning/{backend}{query}"))
    require_not_found(client.get(f"/provisioning/{backend}/1"))
    require_not_found(client.post(f"/provisioning/{backend}/1/extend"))
    require_not_found(client.post(f"/provisioning/{backend}/1/kill"))
    require_not_found(client.delete(f"/provisioning/{backend}/1"))


@pytest.mark.parametrize("wait", ["x", "-1", "1.5", "%20", "1e3", "5s"])
def test_a_bad_wait_names_the_parameter(client: Client, wait: str) -> None:
    answer = client.get(f"/queue/job/1?wait={wait}")
    error = require_error(answer, 400, "query_invalid", None)
    assert "wait" in error["message"]


@pytest.mark.parametrize(
    "method,path,allowed",
    [
        ("PUT", "/provisioning/mysql", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("PATCH", "/provisioning/mysql", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("DELETE", "/provisioning/mysql", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", "/provisioning/mysql/1", {"GET", "HEAD", "OPTIONS", "DELETE"}),
        ("GET", "/provisioning/mysql/1/kill", {"OPTIONS", "POST"}),
        ("DELETE", "/provisioning/mysql/1/extend", {"OPTIONS", "POST"}),
        ("POST", "/queue/job/1", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/queue/jobs/1", {"GET", "HEAD", "OPTIONS"}),
        ("TRACE", "/provisioning/mysql", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("BREW", "/provisioning/mysql", {"GET", "HEAD", "OPTIONS", "POST"}),
    ],
)
def test_a_method_that_is_not_allowed(
    client: Client, method: str, path: str, allowed: set[str]
) -> None:
    answer = client(method, path)
    require_error(answer, 405, "method_not_allowed", f"Method {method} is not allowed.")
    assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("id_", ["1", "abc", "0", "999999999999999999", "-1", "1%27"])
def test_an_unknown_job(client: Client, id_: str) -> None:
    for path in (f"/queue/job/{id_}", f"/queue/jobs/{id_}"):
        shown = id_.replace("%27", "'")
        require_error(client.get(path), 404, "job_not_found", f"Job id '{shown}' not found.")


@pytest.mark.parametrize(
    "run_id,expected",
    [
        (None, 0),
        ("", 0),
        ("   ", 0),
        ("123", 123),
        ("123.456.7", 123),
        ("206296230", 206296230),
        ("abc", 0),
        ("a1", 0),
        ("-5", 0),
        ("[nightly run]", 0),
        (".5", 0),
    ],
)
def test_an_errors_run_id_is_the_leading_number(
    client: Client, run_id: str | None, expected: int
) -> None:
    headers = {} if run_id is None else {"X-KBC-RunId": run_id}
    answer = client.get("/provisioning/mysql/1", headers=headers)
    require_error(answer, 404, "credentials_not_found", "Credentials not found.", run_id=expected)


def test_a_run_id_too_long_for_a_number_is_no_failure(client: Client) -> None:
    answer = client.get("/provisioning/mysql/1", headers={"X-KBC-RunId": "9" * 4000})
    assert answer.status == 404
    assert type(answer.body["runId"]) is int


def test_every_error_has_an_exception_id_of_its_own_that_is_in_the_log(
    service: Service, client: Client
) -> None:
    answers = [
        client.get("/nowhere"),
        client.get("/provisioning/mysql/1"),
        client.get("/provisioning/mysql/1"),
        client.post("/provisioning/mysql", b"{"),
        client.post("/provisioning/snowflake"),
        service.anonymous().get("/provisioning/mysql"),
    ]
    ids = [answer.body["exceptionId"] for answer in answers]
    assert len(set(ids)) == len(ids)
    lines = [line for line in service.logs().splitlines() if "provisioning-" in line]
    logged = {json.loads(line).get("exception_id"): json.loads(line) for line in lines}
    for answer in answers:
        assert logged[answer.body["exceptionId"]]["reason"] == answer.body["reason"]


def test_the_same_errors_are_worded_alike_on_both_fronts(service: Service) -> None:
    token = service.token()
    first, second = (service.client(token, front=n).get("/provisioning/mysql/7") for n in (0, 1))
    require_not_found(first)
    require_not_found(second)


def test_a_message_never_quotes_the_token(service: Service) -> None:
    token = "70-1-not-a-token-of-ours"
    answer = service.client(token).get("/provisioning/mysql/1")
    assert token not in answer.text
    assert token not in service.logs()
