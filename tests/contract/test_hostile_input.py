"""Whatever callers send, the answer is never 5xx (contract section 3, rule 2)."""

import contextlib
import json
import socket
import string
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.contract.expectations import require_headers
from tests.contract.raw_http import exchange
from tests.support.client import Answer, Client
from tests.support.deadlines import DEADLINE
from tests.support.service import Service

FEW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
METHODS = st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"])
SEGMENTS = st.one_of(
    st.sampled_from(
        ["provisioning", "queue", "job", "jobs", "mysql", "docker", "snowflake", "async", "manage"]
        + ["extend", "kill", "health", "live", "..", ".", "", "%00", "%ff%fe", "%2e%2e", "%2f", "1"]
    ),
    st.text(alphabet=string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@%", max_size=12),
)
HEADER_TEXT = st.text(
    alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"),
    max_size=60,
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["sandbox", "transformations", "read"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def token(service: Service) -> str:
    return service.token(project="hostile")


def require_harmless(answer: Answer) -> None:
    assert answer.status < 500, answer
    if answer.text:
        assert isinstance(answer.body, dict)


@FEW
@given(method=METHODS, segments=st.lists(SEGMENTS, max_size=5), query=SEGMENTS)
def test_any_path(
    service: Service, token: str, method: str, segments: list[str], query: str
) -> None:
    path = "/" + "/".join(segments)
    # Two slashes at the start would name another server, not a path.
    path = "/" + path.lstrip("/") + (f"?{query}" if query else "")
    answer = service.client(token)(method, path)
    if method == "POST" and path.startswith("/provisioning/snowflake"):
        assert answer.status in (400, 404, 503)
        return
    require_harmless(answer)


@FEW
@given(id_=st.text(max_size=30), end=st.sampled_from(["", "/extend", "/kill"]))
def test_any_id(service: Service, token: str, id_: str, end: str) -> None:
    client = service.client(token)
    path = f"/provisioning/mysql/{quote(id_.encode('utf-8', 'surrogatepass'), safe='')}{end}"
    answer = client.post(path) if end else client.get(path)
    assert answer.status in (400, 404, 405)
    require_headers(answer)
    job = client.get(f"/queue/job/{quote(id_.encode('utf-8', 'surrogatepass'), safe='')}")
    assert job.status in (400, 404)


@FEW
@given(type_=st.text(max_size=40))
def test_any_type(service: Service, token: str, type_: str) -> None:
    client = service.client(token)
    raw = json.dumps({"type": type_})
    require_harmless(client.post("/provisioning/mysql", raw))
    require_harmless(client.get(f"/provisioning/mysql?type={quote(type_)}"))


@FEW
@given(body=JSON)
def test_any_json_body(service: Service, token: str, body: Any) -> None:
    answer = service.client(token).post("/provisioning/mysql", json.dumps(body))
    assert answer.status in (201, 400)
    require_headers(answer)
    assert answer.body


@FEW
@given(keys=st.dictionaries(st.text(max_size=10), JSON, max_size=3), type_=JSON)
def test_any_keys_beside_the_type(
    service: Service, token: str, keys: dict[str, Any], type_: Any
) -> None:
    answer = service.client(token).post("/provisioning/mysql", json.dumps({**keys, "type": type_}))
    assert answer.status in (201, 400)


@FEW
@given(body=st.binary(max_size=80))
def test_any_bytes_as_a_body(service: Service, token: str, body: bytes) -> None:
    client = service.client(token)
    assert client.post("/provisioning/mysql", body).status in (201, 400)
    assert client.get("/provisioning/mysql/1", body=body).status in (400, 404)


@FEW
@given(
    name=st.sampled_from(
        ["X-StorageApi-Token", "X-KBC-RunId", "Prefer", "Content-Type", "Accept", "Host"]
        + ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Cookie", "Range"]
        + ["If-None-Match", "Authorization", "X-HTTP-Method-Override", "Accept-Encoding"]
    ),
    value=HEADER_TEXT,
)
def test_any_header(service: Service, token: str, name: str, value: str) -> None:
    client = service.client(token)
    lines = {"Host": "a", "X-StorageApi-Token": token, name: value}
    head = "".join(f"{key}: {text}\r\n" for key, text in lines.items())
    for path in ("/provisioning/mysql/1", "/queue/job/1"):
        request = f"GET {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n"
        answer = exchange(client.port, request.encode("latin-1"))
        assert answer.status < 500, answer


@FEW
@given(value=HEADER_TEXT, name=st.sampled_from(["Host", "X-KBC-RunId", "Prefer", "X-Real-IP"]))
def test_any_header_on_a_call_that_records_a_job(
    service: Service, token: str, name: str, value: str
) -> None:
    client = service.client(token)
    id_ = client.create()["id"]
    lines = {"Host": "a", "X-StorageApi-Token": token, "Prefer": "respond-async", name: value}
    head = "".join(f"{key}: {text}\r\n" for key, text in lines.items())
    path = f"/provisioning/mysql/{id_}/kill"
    request = f"POST {path} HTTP/1.1\r\n{head}Connection: close\r\nContent-Length: 0\r\n\r\n"
    answer = exchange(client.port, request.encode("latin-1"))
    assert answer.status < 500, answer


@pytest.mark.parametrize(
    "host", ["", "a b", "a,b", "[", "[::1", "é", "a:b:c", "a:99999999", "..", "/", "<script>", "\t"]
)
def test_a_hostile_host_does_not_lose_a_recorded_job(client: Client, host: str) -> None:
    path = f"/provisioning/mysql/{client.create()['id']}/kill"
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nX-StorageApi-Token: {client.token}\r\n"
    rest = "Prefer: respond-async\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    answer = exchange(client.port, (head + rest).encode("latin-1"))
    assert answer.status < 500, answer


@pytest.mark.parametrize("wait", [f"wait={'9' * 400}", "wait=\x80", "wait=1;" * 500, "," * 3000])
def test_a_hostile_prefer_is_harmless(client: Client, wait: str) -> None:
    path = f"/provisioning/mysql/{client.create()['id']}/kill"
    assert client.post(path, headers={"Prefer": wait}).status == 200


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /provisioning/mysql HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /provisioning/mysql HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=range(8),
)
def test_what_is_no_http_does_not_hurt_the_next_caller(
    service: Service, client: Client, request_: bytes
) -> None:
    address = ("127.0.0.1", client.port)
    with (
        socket.create_connection(address, timeout=DEADLINE) as connection,
        contextlib.suppress(OSError),
    ):
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        assert not connection.recv(4096).startswith(b"HTTP/1.1 5")
    assert client.get("/health/live").status == 200
