"""Callers that are slow to send, and what is no request: they keep nobody else waiting."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse

import pytest

from tests.contract.conftest import ServiceMaker
from tests.support.client import Answer
from tests.support.deadlines import DEADLINE, bar
from tests.support.service import Service

#: Connections that send slowly.
CROWD = 200
#: Seconds that a request may take to arrive.
PATIENCE = 2
HEAD = "POST /provisioning/mysql HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def front(make_service: ServiceMaker) -> Iterator[Service]:
    """A service whose callers have to be quick."""
    seconds = str(PATIENCE)
    with make_service(
        {
            "REQUEST_HEAD_SECONDS": seconds,
            "REQUEST_BODY_SECONDS": seconds,
            "BODY_LIMIT_BYTES": "100000",
        }
    ) as service:
        yield service


@contextmanager
def slow_callers(port: int, count: int) -> Iterator[None]:
    """Keep so many connections whose head or body never ends, of which a byte comes each second."""
    stopped = threading.Event()
    with ExitStack() as opened:
        connections = []
        for number in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
            opened.enter_context(connection)
            rest = "Content-Length: 90000\r\n\r\n" if number % 2 else "X-Slow: "
            connection.sendall(f"{HEAD}{rest}".encode())
            connections.append(connection)

        def go_on() -> None:
            while not stopped.wait(1):
                for connection in connections:
                    # It may have been refused by now.
                    with suppress(OSError):
                        connection.sendall(b" ")

        sender = threading.Thread(target=go_on)
        sender.start()
        try:
            yield
        finally:
            stopped.set()
            sender.join()


def slowest(request: Callable[[], Answer], status: int, times: int) -> float:
    """Return the seconds of the slowest of so many requests, but for the one in a hundred."""
    seconds = []
    for _ in range(times):
        start = time.monotonic()
        assert request().status == status
        seconds.append(time.monotonic() - start)
    return sorted(seconds)[int(times * 0.99) - 1]


def test_slow_callers_keep_nobody_waiting(make_service: ServiceMaker) -> None:
    with make_service({}) as service:
        anonymous = service.anonymous()
        clients = iter([service.client() for _ in range(20)])
        with slow_callers(anonymous.port, CROWD):
            assert slowest(lambda: anonymous.get("/health/live"), 200, 100) < bar(0.5)

            def create() -> Answer:
                return next(clients).post("/provisioning/mysql", {"type": "transformations"})

            assert slowest(create, 201, 20) < bar(0.5)


@pytest.mark.parametrize(
    "start",
    [
        "",
        "X-A: b",
        "Content-Length: 90000\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n",
    ],
)
def test_a_request_has_to_arrive_in_time_however_often_a_byte_comes(
    front: Service, start: str
) -> None:
    with socket.create_connection(("127.0.0.1", front.anonymous().port), DEADLINE) as connection:
        connection.sendall(f"{HEAD}{start}".encode())
        began, answer = time.monotonic(), b""
        connection.settimeout(0.1)
        while not answer:
            assert time.monotonic() - began < DEADLINE
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                connection.sendall(b"a")
        connection.settimeout(DEADLINE)
        require_refusal(answer + receive(connection), 408, "request_too_slow")
        assert time.monotonic() - began > PATIENCE * 0.9


def test_a_connection_without_a_request_is_closed_without_a_word(front: Service) -> None:
    with socket.create_connection(("127.0.0.1", front.anonymous().port), DEADLINE) as connection:
        assert connection.recv(1) == b""


def test_a_caller_that_was_answered_and_stays_keeps_nobody_waiting(front: Service) -> None:
    client = front.anonymous()
    with ExitStack() as opened:
        for _ in range(20):
            connection = socket.create_connection(("127.0.0.1", client.port), DEADLINE)
            opened.enter_context(connection)
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        # The server waits two seconds for each to close its side.
        assert slowest(lambda: client.get("/health/live"), 200, 3) < 20


def receive(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    received = b""
    while part := connection.recv(65536):
        received += part
    return received


def test_the_oldest_connection_makes_room_for_a_new_one(make_service: ServiceMaker) -> None:
    with make_service({"GUNICORN_CMD_ARGS": "--worker-connections 20"}) as service:
        client = service.anonymous()
        with slow_callers(client.port, 50):
            assert slowest(lambda: client.get("/health/live"), 200, 50) < bar(0.5)


def test_bodies_that_do_not_end_are_bounded_in_all(front: Service) -> None:
    """Eight of the largest ones at once; the oldest is refused."""
    client = front.anonymous()
    head = f"{HEAD}Content-Length: 100000\r\n\r\n"
    with ExitStack() as opened:
        connections = []
        for _ in range(12):
            connection = socket.create_connection(("127.0.0.1", client.port), DEADLINE)
            connections.append(opened.enter_context(connection))
            connection.sendall(head.encode() + b" " * 90_000)
        require_refusal(receive(connections[0]), 503, "overloaded")
        assert client.post("/provisioning/mysql", b" " * 90_000).status == 400


# Requests in parts ----------------------------------------------------------------------


def connect(service: Service) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", service.anonymous().port, timeout=DEADLINE)


def require_reason(answer: HTTPResponse, reason: str) -> None:
    assert json.loads(answer.read())["reason"] == reason


def test_requests_on_one_connection_are_answered_in_order(front: Service) -> None:
    paths = ["/health/live", "/a", "/health/ready", "/b"]
    requests = "".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in paths[:-1])
    requests += f"GET {paths[-1]} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front.anonymous().port), DEADLINE) as connection:
        connection.sendall(requests.encode())
        answers = re.findall(rb"HTTP/1.1 ([0-9]+)", receive(connection))
    assert answers == [b"200", b"404", b"200", b"404"]


def test_a_connection_is_kept_after_bodies_of_every_form(front: Service) -> None:
    connection = connect(front)
    try:
        for body in (b"{}", b"[]" * 40_000, iter([b"{", b"}" * 70_000]), iter([b""])):
            connection.request("POST", "/provisioning/mysql", body=body)
            opened = connection.sock
            require_reason(connection.getresponse(), "token_missing")
            assert connection.sock is opened is not None
    finally:
        connection.close()


def test_a_caller_that_waits_for_100_gets_it_before_it_sends_the_body(front: Service) -> None:
    head = f"{HEAD}Content-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front.anonymous().port), DEADLINE) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        require_refusal(receive(connection), 400, "token_missing")


@pytest.mark.parametrize("form", ["Content-Length: 200000\r\n\r\n", "chunked"])
def test_a_body_over_the_limit_is_refused_before_it_has_come(front: Service, form: str) -> None:
    if form == "chunked":
        form = "Transfer-Encoding: chunked\r\n\r\n" + "30000\r\n" + "a" * 120_000
    with socket.create_connection(("127.0.0.1", front.anonymous().port), DEADLINE) as connection:
        connection.sendall(f"{HEAD}{form}".encode())
        require_refusal(receive(connection), 413, "body_too_large")


# What is no request -----------------------------------------------------------------------


def require_refusal(received: bytes, status: int, reason: str) -> None:
    head, _, body = received.decode().partition("\r\n\r\n")
    lines = head.split("\r\n")
    assert lines[0].startswith(f"HTTP/1.1 {status} "), received
    headers = {name.lower(): value for name, _, value in (s.partition(": ") for s in lines[1:])}
    assert headers["content-type"] == "application/json"
    assert headers["access-control-allow-origin"] == "*"
    fields = json.loads(body)
    assert (fields["code"], fields["reason"]) == (status, reason)
    assert set(fields) == {"status", "error", "code", "reason", "message", "exceptionId", "runId"}


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (f"GET /{'a' * 9000} HTTP/1.1\r\nHost: a\r\n\r\n", 414, "line_too_long"),
        ("a" * 9000, 414, "line_too_long"),
        (f"GET / HTTP/1.1\r\nHost: a\r\nX-A: {'a' * 9000}\r\n\r\n", 431, "headers_too_large"),
        ("GET / HTTP/1.1\r\n" + "X-A: b\r\n" * 500 + "\r\n", 431, "headers_too_large"),
        ("GET / HTTP/1.1\r\n" + f"X-A: {'b' * 800}\r\n" * 90, 431, "headers_too_large"),
        ("no request\r\n\r\n", 400, "not_http"),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "not_http"),
        (f"{HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "not_http"),
        (f"{HEAD}Transfer-Encoding: chunked\r\n\r\nno size\r\n", 400, "not_http"),
        (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n", 400, "not_http"),
        (f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{'1' * 9000}", 400, "not_http"),
        (f"{HEAD}Transfer-Encoding: gzip\r\n\r\n", 400, "not_http"),
    ],
)
def test_what_is_no_request_is_refused_in_the_form_of_all_errors(
    front: Service, request_: str, status: int, reason: str
) -> None:
    with socket.create_connection(("127.0.0.1", front.anonymous().port), DEADLINE) as connection:
        connection.sendall(request_.encode())
        require_refusal(receive(connection), status, reason)
