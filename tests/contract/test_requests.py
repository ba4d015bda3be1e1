"""How requests are read (contract section 2)."""

import contextlib
import json
import socket
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.contract.expectations import require_error, require_headers
from tests.contract.raw_http import exchange
from tests.support.client import Client
from tests.support.deadlines import DEADLINE
from tests.support.service import Service

LIMIT = 10 * 1024 * 1024


def front_port(service: Service) -> int:
    return service.anonymous().port


@pytest.mark.parametrize("name", ["x-storageapi-token", "X-STORAGEAPI-TOKEN", "X-StorageApi-Token"])
def test_the_token_header_is_read_in_any_case(service: Service, name: str) -> None:
    answer = service.anonymous().get("/queue/job/1", headers={name: service.token()})
    require_error(answer, 404, "job_not_found", "Job id '1' not found.")


def test_other_token_headers_are_ignored(service: Service, client: Client) -> None:
    ignored = {"X-Provisioning-Token": "x", "X-StorageApi-Url": "http://203.0.113.1/"}
    assert client.post("/provisioning/mysql", headers=ignored).status == 201
    only = {"X-Provisioning-Token": service.token()}
    answer = service.anonymous().post("/provisioning/mysql", headers=only)
    require_error(answer, 400, "token_missing", "Missing StorageAPI token")


@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "text/plain", "application/x-www-form-urlencoded", "{", ""],
)
def test_a_body_is_json_whatever_its_content_type(client: Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.post("/provisioning/mysql", {"type": "read"}, headers=headers)
    require_error(answer, 400, "type_invalid", None)


@pytest.mark.parametrize("body", [b"", b" \n", b"null", b"[]", b"{}", b" [ ] ", b'{"type":null}'])
def test_an_empty_body_null_and_an_empty_list_mean_no_parameters(
    client: Client, body: bytes
) -> None:
    answer = client.post("/provisioning/mysql", body)
    assert answer.status == 201
    assert "_tran_" in answer.body["credentials"]["db"]


@pytest.mark.parametrize("body", [b"", b"null", b"[]"])
def test_every_method_takes_an_empty_body(client: Client, body: bytes) -> None:
    credential = client.create()
    path = f"/provisioning/mysql/{credential['id']}"
    assert client.get("/provisioning/mysql?type=sandbox", body=body).status == 200
    assert client.get(path, body=body).status == 200
    assert client.post(f"{path}/extend", body).status == 200
    assert client.post(f"{path}/kill", body).status == 200
    assert client.delete(path, body=body).body == {"status": "ok"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{}{}",
        b"1",
        b'"sandbox"',
        b"true",
        b"[1]",
        b"[[]]",
        b"[{}]",
        b'{"type":NaN}',
        b"{'type':'sandbox'}",
        b"type=sandbox",
        b'{"type":"\xff"}',
        b"\xff\xfe{\x00}\x00",
        b"[" * 100_000,
        b"9" * 5_000,
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_json_object_is_bad(client: Client, body: bytes) -> None:
    answer = client.post("/provisioning/mysql", body)
    error = require_error(answer, 400, "bad_json", None)
    assert error["message"].startswith("Bad JSON format of request body: ")
    assert len(error["message"]) > len("Bad JSON format of request body: ")


def test_the_parsers_text_does_not_quote_the_body(client: Client) -> None:
    answer = client.post("/provisioning/mysql", b'{"type": hunter2-secret}')
    assert "hunter2" not in answer.text
    answer = client.post("/provisioning/mysql", b'{"password":"hunter2\xff"}')
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("method,end", [("GET", ""), ("DELETE", ""), ("POST", "/extend")])
def test_bad_json_is_refused_on_every_method(client: Client, method: str, end: str) -> None:
    path = f"/provisioning/mysql/{client.create()['id']}{end}"
    require_error(client(method, path, b"{"), 400, "bad_json", None)


def test_a_byte_order_mark_before_the_body_is_no_fault(client: Client) -> None:
    answer = client.post("/provisioning/mysql", b'\xef\xbb\xbf{"type":"sandbox"}')
    assert answer.status == 201
    assert "_sand_" in answer.body["credentials"]["db"]


def test_json_escapes_are_read(client: Client) -> None:
    answer = client.post("/provisioning/mysql", b'{"type":"s\\u0061ndbox"}')
    assert answer.status == 201


def test_an_unknown_body_key_is_refused(client: Client) -> None:
    answer = client.post("/provisioning/mysql", {"type": "sandbox", "size": 3})
    message = "Parameter 'size' is not allowed. Allowed params are 'type,ttl'"
    require_error(answer, 400, "parameter_unknown", message)


@pytest.mark.parametrize("end, allowed", [("/extend", "ttl"), ("/kill", "")])
def test_a_call_on_a_credential_takes_no_type(client: Client, end: str, allowed: str) -> None:
    path = f"/provisioning/mysql/{client.create()['id']}"
    answer = client.post(f"{path}{end}", {"type": "sandbox"})
    message = f"Parameter 'type' is not allowed. Allowed params are '{allowed}'"
    require_error(answer, 400, "parameter_unknown", message)


def test_a_null_value_counts_as_absent_even_of_an_unknown_key(client: Client) -> None:
    assert client.post("/provisioning/mysql", {"type": None, "size": None}).status == 201


def test_unknown_query_parameters_are_ignored(client: Client) -> None:
    query = "?type=read&_=123&%00=%ff&limit=x"
    created = client.post(f"/provisioning/mysql{query}", {"type": "sandbox"})
    assert created.status == 201
    path = f"/provisioning/mysql/{created.body['id']}"
    assert client.get("/provisioning/mysql?type=sandbox&a=b").status == 200
    assert client.get(path + query).status == 200
    assert client.post(f"{path}/extend{query}").status == 200
    assert client.post(f"{path}/kill{query}").status == 200
    assert client.delete(path + query).body == {"status": "ok"}


@pytest.mark.parametrize(
    "path",
    ["/provisioning/mysql/{id}", "/provisioning/mysql?type=sandbox", "/provisioning/mysql/1"],
)
def test_head_is_get_without_body(service: Service, client: Client, path: str) -> None:
    path = path.format(id=client.create()["id"])
    got = client.get(path)
    request = f"HEAD {path} HTTP/1.1\r\nHost: a\r\nX-StorageApi-Token: {client.token}\r\n"
    head = exchange(client.port, request.encode() + b"Connection: close\r\n\r\n")
    assert head.status == got.status
    assert head.body == b""
    assert head.headers["content-type"] == "application/json"
    assert head.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("method", ["POST", "DELETE", "GET"])
def test_http_1_0_is_answered_without_chunks(client: Client, method: str) -> None:
    credential = client.create()
    path = "/provisioning/mysql" if method == "POST" else f"/provisioning/mysql/{credential['id']}"
    body = b'{"type":"sandbox"}' if method == "POST" else b""
    head = f"{method} {path} HTTP/1.0\r\nX-StorageApi-Token: {client.token}\r\n"
    answer = exchange(client.port, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    assert answer.status == (201 if method == "POST" else 200)
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["content-length"] == str(len(answer.body))
    assert json.loads(answer.body)["status"] == "ok"


def test_an_error_over_http_1_0_is_not_chunked_either(service: Service) -> None:
    answer = exchange(front_port(service), b"GET /provisioning/mysql HTTP/1.0\r\n\r\n")
    assert answer.status == 400
    assert "transfer-encoding" not in answer.headers
    assert json.loads(answer.body)["reason"] == "token_missing"


def send_chunks(client: Client, *parts: bytes) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", client.port, timeout=DEADLINE)
    try:
        headers = {"X-StorageApi-Token": client.token or "", "Transfer-Encoding": "chunked"}
        connection.request("POST", "/provisioning/mysql", iter(parts), headers, encode_chunked=True)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_a_chunked_body_is_read(client: Client) -> None:
    status, body = send_chunks(client, b'{"type":', b'"sandbox"}')
    assert status == 201
    assert "_sand_" in body["credentials"]["db"]
    status, body = send_chunks(client, b'{"type":', b'"read"}')
    assert (status, body["reason"]) == (400, "type_invalid")


def test_one_connection_serves_many_requests(client: Client) -> None:
    connection = HTTPConnection("127.0.0.1", client.port, timeout=DEADLINE)
    headers = {"X-StorageApi-Token": client.token or ""}
    # A refused body must be read or the connection closed, else it is taken for a request.
    for path, body, status in (
        ("/provisioning/mysql", b'{"type":"sandbox"}', 201),
        ("/provisioning/nowhere", b'{"type":"sandbox"}', 400),
        ("/provisioning/nowhere/at/all", b'{"type":"sandbox"}', 404),
        ("/provisioning/mysql", b'{"type":"sandbox"}', 201),
    ):
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


@pytest.mark.parametrize(
    "value", ["", "x", "wait=", "wait=-1", "wait=1.5", "return=minimal", "=,;"]
)
def test_preferences_that_are_not_understood_are_ignored(client: Client, value: str) -> None:
    path = f"/provisioning/mysql/{client.create()['id']}"
    answer = client.post(f"{path}/kill", headers={"Prefer": value})
    assert (answer.status, answer.body) == (200, {"status": "ok"})
    assert answer.headers.get("Preference-Applied") is None
    assert client.delete(path, headers={"Prefer": value}).body == {"status": "ok"}


def padded(size: int) -> bytes:
    body = b'{"type":"sandbox"}'
    return body + b" " * (size - len(body))


def test_a_body_of_ten_mebibytes_is_read(client: Client) -> None:
    assert client.post("/provisioning/mysql", padded(LIMIT)).status == 201


def test_a_larger_body_is_refused_by_its_length_alone(service: Service, client: Client) -> None:
    head = (
        f"POST /provisioning/mysql HTTP/1.1\r\nHost: a\r\nX-StorageApi-Token: {client.token}\r\n"
        f"Content-Length: {LIMIT + 1}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", client.port), timeout=DEADLINE) as connection:
        connection.sendall(head.encode())
        # The service need not wait for the body; one that does gets it.
        with contextlib.suppress(OSError):
            connection.sendall(padded(LIMIT + 1))
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_head_and_options_carry_no_body_and_others_always_do(service: Service) -> None:
    anonymous = service.anonymous()
    for path in ("/", "/provisioning/mysql", "/queue/job/1", "/health/live", "/x"):
        answer = anonymous.get(path)
        require_headers(answer)
        assert isinstance(answer.body, dict) and answer.body
        assert anonymous("HEAD", path).text == ""
