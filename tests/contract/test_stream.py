"""Server-sent events of a job: their form, their resumption and their bounds."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from api import job_stream
from api.waiting import WaitingRoom
from provisioning.background.job_runner import run_job
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import accepted_job, finished_job, require_error
from tests.contract.raw_http import exchange
from tests.support.client import Client
from tests.support.deadlines import DEADLINE, wait_until
from tests.support.service import Service

ASYNC = {"Prefer": "respond-async"}
#: Seconds of a stream: enough to run a job meanwhile, far less than the default of minutes.
SECONDS = 5


@dataclass(frozen=True)
class Message:
    """One server-sent event."""

    id: int
    event: str
    data: dict[str, Any]


class Stream:
    """An open stream; `messages` yields what comes until the server ends it."""

    def __init__(self, answer: HTTPResponse) -> None:
        self.answer = answer

    def messages(self) -> Iterator[Message]:
        fields: dict[str, str] = {}
        for line in self.answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                yield Message(int(fields["id"]), fields["event"], json.loads(fields["data"]))
                fields = {}


@contextmanager
def opened(client: Client, job: int, headers: dict[str, str] | None = None) -> Iterator[Stream]:
    connection = HTTPConnection("127.0.0.1", client.port, timeout=DEADLINE)
    try:
        token = {"X-StorageApi-Token": client.token or ""}
        connection.request("GET", f"/queue/job/{job}/stream", headers={**token, **(headers or {})})
        yield Stream(connection.getresponse())
    finally:
        connection.close()


def start_kill(client: Client) -> int:
    path = f"/provisioning/mysql/{client.create()['id']}/kill"
    return accepted_job(client.post(path, headers=ASYNC))


def test_a_finished_jobs_stream_tells_everything_and_ends(client: Client) -> None:
    job = start_kill(client)
    record = finished_job(client, job)
    with opened(client, job) as stream:
        headers = stream.answer.headers
        *told, end = stream.messages()
    assert stream.answer.status == 200
    assert headers["Content-Type"].partition(";")[0] == "text/event-stream"
    for name in ("Origin", "Methods", "Headers"):
        assert headers[f"Access-Control-Allow-{name}"] == "*"
    assert headers["Cache-Control"] == "private, no-cache, no-store, must-revalidate"
    assert {message.event for message in told} == {"status"}
    events = client.get(f"/queue/job/{job}/events").body
    assert [message.data for message in told] == events
    assert [message.id for message in told] == [event["id"] for event in events]
    assert (end.event, end.id) == ("end", events[-1]["id"])
    assert end.data == {"id": job, "status": "success", "url": record["url"]}


def test_a_stream_goes_on_after_the_last_event_its_reader_has(client: Client) -> None:
    job = start_kill(client)
    finished_job(client, job)
    events = client.get(f"/queue/job/{job}/events").body
    for last in (events[1]["id"], events[-1]["id"]):
        with opened(client, job, {"Last-Event-ID": str(last)}) as stream:
            *told, end = stream.messages()
        assert [message.data for message in told] == [e for e in events if e["id"] > last]
        assert end.event == "end"
    with opened(client, job, {"Last-Event-ID": "not a number"}) as stream:
        assert len(list(stream.messages())) == len(events) + 1


def test_a_stream_needs_a_token_of_the_jobs_project(service: Service, client: Client) -> None:
    job = start_kill(client)
    answer = service.client().get(f"/queue/job/{job}/stream")
    require_error(answer, 404, "job_not_found", f"Job id '{job}' not found.")
    answer = service.anonymous().get(f"/queue/job/{job}/stream?token={client.token}")
    require_error(answer, 400, "token_missing", "Missing StorageAPI token")


# Without a worker -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def idle(make_service: ServiceMaker) -> Iterator[Service]:
    """A service with a place for one stream, whose jobs run when the test says so."""
    with make_service({"STREAMS": "1", "STREAM_SECONDS": str(SECONDS)}) as service:
        yield service


def test_events_are_told_as_they_happen(idle: Service) -> None:
    client = idle.client()
    job = start_kill(client)
    with opened(client, job) as stream:
        messages = stream.messages()
        first = next(messages)
        assert first.data["event"] == "job.accepted"
        run_job(idle.installation, job, ["mysql"])
        rest = [message.data.get("event") for message in messages]
    assert rest == ["job.started", "sessions.killed", "job.succeeded", None]


def test_a_stream_is_bounded_in_time_and_number(idle: Service) -> None:
    client = idle.client()
    job = start_kill(client)
    start = time.monotonic()
    with opened(client, job) as stream:
        messages = stream.messages()
        assert next(messages).data["event"] == "job.accepted"
        refused = client.get(f"/queue/job/{job}/stream")
        message = "Too many streams are open, try again later or ask for the events."
        require_error(refused, 503, "too_many_streams", message)
        assert list(messages) == [], "a job that goes on has no end event"
    assert SECONDS <= time.monotonic() - start < SECONDS + DEADLINE
    run_job(idle.installation, job, ["mysql"])
    # What holds no stream takes no place for longer than its answer.
    assert client("HEAD", f"/queue/job/{job}/stream").status == 200
    wait_until(
        lambda: client.get(f"/queue/job/{job}/stream").status == 200,
        what="a place for a stream",
    )


def test_one_token_leaves_streams_for_others(make_service: ServiceMaker) -> None:
    with make_service({"STREAMS": "4"}) as service, ExitStack() as streams:
        many, one = service.client(), service.client()
        job = start_kill(many)
        for status in (200, 200, 503, 503):
            answer = streams.enter_context(opened(many, job)).answer
            assert answer.status == status
        assert streams.enter_context(opened(one, start_kill(one))).answer.status == 200


def test_a_stream_to_http_1_0_is_not_chunked(idle: Service) -> None:
    client = idle.client()
    job = start_kill(client)
    run_job(idle.installation, job, ["mysql"])
    request = f"GET /queue/job/{job}/stream HTTP/1.0\r\nX-StorageApi-Token: {client.token}\r\n\r\n"
    answer = exchange(client.port, request.encode())
    assert answer.status == 200 and "transfer-encoding" not in answer.headers
    assert answer.body.startswith(b"retry: 1000\n\n")
    assert answer.body.endswith(b"\n\n") and b"event: end\n" in answer.body


def test_a_silent_stream_is_kept_alive(idle: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job = start_kill(idle.client())
    monkeypatch.setattr(job_stream, "KEEP_ALIVE", 0)
    database = idle.installation.database
    told = list(job_stream._follow(WaitingRoom(database, 1, 1), database, job, "the job", 0, 2))
    assert told[0] == "retry: 1000\n\n" and "event: status\n" in told[1]
    assert set(told[2:]) == {": keep-alive\n\n"}
