"""The first failing check answers (contract 2.9), pair by pair; and the body limit (2.8)."""

from collections.abc import Iterator

import pytest

from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import require_error
from tests.support.client import Client
from tests.support.service import Service

LIMIT = 2048
LARGE = b'{"type": ' + b" " * LIMIT
BROKEN = b"{"
WRONG = b'{"unheard": 1}'


@pytest.fixture(scope="module")
def limited(make_service: ServiceMaker) -> Iterator[Service]:
    with make_service({"BODY_LIMIT_BYTES": str(LIMIT)}) as service:
        yield service


PAIRS = [
    # (later fault in the name), method, path, token, body, reason
    ("route before method", "PUT", "/provisioning/mysql/1/2/3", "good", None, "route_not_found"),
    ("route before size", "POST", "/nowhere", "good", LARGE, "route_not_found"),
    ("route before token", "GET", "/nowhere", None, None, "route_not_found"),
    ("route before backend", "GET", "/provisioning/oracle/", "good", None, "route_not_found"),
    ("method before size", "PUT", "/provisioning/mysql", "good", LARGE, "method_not_allowed"),
    ("method before token", "PUT", "/provisioning/mysql", None, None, "method_not_allowed"),
    ("method before backend", "PUT", "/provisioning/oracle", "good", None, "method_not_allowed"),
    ("method before json", "PUT", "/queue/job/1", "good", BROKEN, "method_not_allowed"),
    ("size before token", "POST", "/provisioning/mysql", None, LARGE, "body_too_large"),
    ("size before bad token", "POST", "/provisioning/mysql", "bad", LARGE, "body_too_large"),
    ("size before backend", "POST", "/provisioning/oracle", "good", LARGE, "body_too_large"),
    ("size before action", "POST", "/provisioning/docker", "good", LARGE, "body_too_large"),
    ("size before lookup", "DELETE", "/provisioning/mysql/1", "good", LARGE, "body_too_large"),
    ("token before backend", "POST", "/provisioning/oracle", None, None, "token_missing"),
    ("bad token before backend", "POST", "/provisioning/oracle", "bad", None, "token_invalid"),
    ("token before action", "POST", "/provisioning/docker", "bad", None, "token_invalid"),
    ("token before json", "POST", "/provisioning/mysql", None, BROKEN, "token_missing"),
    ("token before parameters", "POST", "/provisioning/mysql", "bad", WRONG, "token_invalid"),
    ("token before lookup", "GET", "/provisioning/mysql/1", None, None, "token_missing"),
    ("token before job lookup", "GET", "/queue/job/1", "bad", None, "token_invalid"),
    ("token before server", "POST", "/provisioning/snowflake", "bad", None, "token_invalid"),
    ("backend before json", "POST", "/provisioning/oracle", "good", BROKEN, "backend_unknown"),
    ("backend before parameters", "POST", "/provisioning/oracle", "good", WRONG, "backend_unknown"),
    ("backend before lookup", "GET", "/provisioning/oracle/1", "good", None, "backend_unknown"),
    ("action before json", "POST", "/provisioning/docker", "good", BROKEN, "backend_async_only"),
    (
        "action before parameters",
        "POST",
        "/provisioning/docker",
        "good",
        WRONG,
        "backend_async_only",
    ),
    (
        "action before lookup",
        "DELETE",
        "/provisioning/docker/1",
        "good",
        None,
        "backend_async_only",
    ),
    (
        "action before id form",
        "POST",
        "/provisioning/docker/x/kill",
        "good",
        None,
        "backend_async_only",
    ),
    ("json before parameters", "GET", "/provisioning/mysql?type=read", "good", BROKEN, "bad_json"),
    ("json before lookup", "GET", "/provisioning/mysql/1", "good", BROKEN, "bad_json"),
    ("json before job lookup", "GET", "/queue/job/1", "good", BROKEN, "bad_json"),
    ("json before server", "POST", "/provisioning/snowflake", "good", BROKEN, "bad_json"),
    (
        "parameters before lookup",
        "DELETE",
        "/provisioning/mysql/1",
        "good",
        WRONG,
        "parameter_unknown",
    ),
    ("type before lookup", "GET", "/provisioning/mysql?type=read", "good", None, "type_invalid"),
    ("wait before lookup", "GET", "/queue/job/1?wait=x", "good", None, "query_invalid"),
    (
        "type before server",
        "POST",
        "/provisioning/snowflake",
        "good",
        b'{"type":"x"}',
        "type_invalid",
    ),
    ("key before server", "POST", "/provisioning/snowflake", "good", WRONG, "parameter_unknown"),
    (
        "lookup before server",
        "POST",
        "/provisioning/snowflake/1/kill",
        "good",
        None,
        "credentials_not_found",
    ),
]


@pytest.mark.parametrize(
    "method,path,token,body,reason", [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS]
)
def test_checks_come_in_order(
    limited: Service, method: str, path: str, token: str | None, body: bytes | None, reason: str
) -> None:
    tokens = {"good": limited.token(), "bad": "70-1-wrong", None: None}
    client = Client(limited.anonymous().port, tokens[token])
    answer = client(method, path, body)
    assert answer.body["reason"] == reason


@pytest.mark.parametrize("segment", ["async", "manage"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_a_reserved_segment_is_no_route_whatever_the_method(
    limited: Service, method: str, segment: str
) -> None:
    answer = limited.client()(method, f"/provisioning/{segment}")
    require_error(answer, 404, "route_not_found", "Route not found")


def test_the_body_limit_is_configurable_and_named(limited: Service) -> None:
    client = limited.client()
    body = b'{"type":"sandbox"}'
    exactly = body + b" " * (LIMIT - len(body))
    assert client.post("/provisioning/mysql", exactly).status == 201
    answer = client.post("/provisioning/mysql", exactly + b" ")
    error = require_error(answer, 413, "body_too_large", None)
    assert str(LIMIT) in error["message"]


def test_the_body_limit_holds_for_chunked_bodies(limited: Service) -> None:
    client = limited.client()
    headers = {"Transfer-Encoding": "chunked"}
    chunk = b"400\r\n" + b" " * 1024 + b"\r\n"
    body = chunk * (LIMIT // 1024 + 1) + b"0\r\n\r\n"
    answer = client.post("/provisioning/mysql", body, headers=headers)
    require_error(answer, 413, "body_too_large", None)
