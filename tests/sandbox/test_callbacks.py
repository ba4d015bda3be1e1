"""Callbacks at a job's end: signed, repeated until taken, and sent to allowed hosts only."""

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from provisioning.background.sweep import sweep
from provisioning.configuration import config
from provisioning.errors import ConfigurationError
from provisioning.installation import Installation
from provisioning.jobs.callbacks import deliver
from provisioning.state.enums import CallbackState
from provisioning.state.events import events_of_job
from provisioning.state.models import Callback, Job
from tests.sandbox.receiver import SECRET, Receiver
from tests.sandbox.stand_in_engine import work_on
from tests.support.deadlines import DEADLINE, ENDLESS

PATH = "/provisioning/async/docker"


@pytest.fixture
def environment(environment: dict[str, str], receiver: Receiver) -> dict[str, str]:
    return {
        **environment,
        "CALLBACK_HOSTS": f"hooks.example.com,{receiver.origin}",
        "CALLBACK_SECRET": SECRET,
        "CALLBACK_TIMEOUT_SECONDS": "1",
    }


def create(front: FlaskClient, url: str) -> int:
    answer = front.post(PATH, json={"type": "jupyter", "callbackUrl": url})
    assert answer.status_code == 202, answer.text
    assert answer.json is not None
    return int(answer.json["id"])


def state_of(installation: Installation, job_id: int) -> Callback:
    with installation.database.read() as session:
        return session.get_one(Callback, job_id)


def due(installation: Installation) -> list[int]:
    return [job_id for job_id, _ in sweep(installation).callbacks]


def make_due(installation: Installation, job_id: int) -> None:
    """Let the pause of a failed try be over."""
    with installation.database.write() as session:
        session.execute(update(Callback).where(Callback.id == job_id).values(not_before=0))


def test_a_finished_job_is_told_once_and_signed(
    installation: Installation, front: FlaskClient, receiver: Receiver
) -> None:
    job_id = create(front, f"{receiver.origin}/hook?key=sesame")
    record = front.get(f"/queue/job/{job_id}").text
    assert "callback" not in record and "sesame" not in record
    assert "sesame" not in state_of(installation, job_id).url
    deliver(installation, job_id)
    assert due(installation) == [] and receiver.heard == [], "the job goes on"
    work_on(installation, job_id)
    assert due(installation) == [job_id]
    deliver(installation, job_id)
    deliver(installation, job_id)
    [heard] = receiver.heard
    assert heard.path == "/hook?key=sesame"
    assert json.loads(heard.body) == {
        "id": job_id, "status": "success", "url": f"http://localhost/queue/job/{job_id}",
    }  # fmt: skip
    timestamp = heard.headers["x-provisioning-timestamp"]
    assert abs(int(timestamp) - time.time()) < DEADLINE
    digest = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + heard.body, hashlib.sha256)
    assert heard.headers["x-provisioning-signature"] == f"sha256={digest.hexdigest()}"
    row = state_of(installation, job_id)
    assert (row.state, row.url) == (CallbackState.TAKEN, "")
    assert events_of_job(installation.database, job_id)[-1].action == "callback.taken"
    assert due(installation) == []


def test_a_callback_is_repeated_with_growing_pauses_until_it_is_taken(
    installation: Installation, front: FlaskClient, receiver: Receiver
) -> None:
    job_id = create(front, f"{receiver.origin}/hook")
    work_on(installation, job_id)
    pauses = []
    for status in (500, 302, 404):
        receiver.status = status
        before = time.time() * 1000
        deliver(installation, job_id)
        row = state_of(installation, job_id)
        assert row.failure == f"{receiver.origin}: status {status}"
        pauses.append(row.not_before - before)
        assert due(installation) == []
        deliver(installation, job_id)
        make_due(installation, job_id)
    assert [heard.path for heard in receiver.heard] == ["/hook"] * 3, "no redirect is followed"
    assert pauses[0] > 500 and pauses[1] > pauses[0] + 500 and pauses[2] > pauses[1] + 500
    receiver.status = 200
    deliver(installation, job_id)
    assert state_of(installation, job_id).state is CallbackState.TAKEN


def test_a_callback_that_nobody_takes_is_given_up(
    installation: Installation, front: FlaskClient, receiver: Receiver
) -> None:
    job_id = create(front, f"{receiver.origin}/hook")
    work_on(installation, job_id)
    receiver.status = 500
    deliver(installation, job_id)
    with installation.database.write() as session:
        long_ago = Job.ended_at - 7 * 3600 * 1000
        session.execute(update(Job).where(Job.id == job_id).values(ended_at=long_ago))
    make_due(installation, job_id)
    deliver(installation, job_id)
    row = state_of(installation, job_id)
    assert (row.state, row.url, len(receiver.heard)) == (CallbackState.GIVEN_UP, "", 2)
    last = events_of_job(installation.database, job_id)[-1]
    assert (last.action, last.failure) == ("callback.given_up", f"{receiver.origin}: status 500")


def _silence(connection: socket.socket) -> None:
    connection.recv(1)


def _drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(10 * ENDLESS):
        connection.sendall(b"X: y\r\n")
        time.sleep(0.1)


@pytest.mark.parametrize("behave", [_silence, _drip])
def test_a_server_that_does_not_come_to_an_end_is_hung_up_on(
    installation: Installation,
    front: FlaskClient,
    receiver: Receiver,
    behave: Callable[[socket.socket], None],
) -> None:
    receiver.server.shutdown()
    connections = []

    def serve() -> None:
        connections.append(receiver.server.socket.accept()[0])
        try:
            behave(connections[0])
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    job_id = create(front, f"{receiver.origin}/hook")
    work_on(installation, job_id)
    thread.start()
    start = time.monotonic()
    deliver(installation, job_id)
    assert 0.9 < time.monotonic() - start < DEADLINE
    taken = state_of(installation, job_id).state is CallbackState.TAKEN
    assert taken is (behave is _drip), "a good status counts, whatever else was to follow it"
    thread.join(DEADLINE)
    connections[0].close()


def test_only_allowed_hosts_are_called(front: FlaskClient, receiver: Receiver) -> None:
    port = receiver.server.server_port
    for url, problem in (
        ("https://evil.example.com/", "this host is not one that may be called"),
        ("https://sub.hooks.example.com/", "this host is not one that may be called"),
        ("http://hooks.example.com/", "this host is not one that may be called"),
        ("https://hooks.example.com:8443/", "this host is not one that may be called"),
        (f"http://localhost:{port}/", "this host is not one that may be called"),
        ("https://hooks.example.com@evil/", "an address such as https://host/path is expected"),
        ("", "an address such as https://host/path is expected"),
        (7, "a string is expected"),
    ):
        for path, body in (
            (PATH, {"type": "jupyter"}),
            (
                f"{PATH}/transformation",
                {"transformation": {"config_id": "1", "config_version": "1", "row_id": "1"}},
            ),
        ):
            answer = front.post(path, json={**body, "callbackUrl": url})
            assert answer.status_code == 400 and answer.json is not None
            assert answer.json["reason"] == "parameter_invalid"
            assert answer.json["message"] == f"Parameter 'callbackUrl' is invalid: {problem}"


def test_a_host_that_is_no_longer_allowed_is_not_called(
    installation: Installation, front: FlaskClient, receiver: Receiver
) -> None:
    job_id = create(front, f"{receiver.origin}/hook")
    work_on(installation, job_id)
    others = ("https://hooks.example.com:443",)
    installation.config = replace(installation.config, callback_hosts=others)
    deliver(installation, job_id)
    assert receiver.heard == []
    failure = state_of(installation, job_id).failure
    assert failure == f"{receiver.origin} is not in CALLBACK_HOSTS any more"


class TestWithoutHosts:
    @pytest.fixture
    def environment(self, environment: dict[str, str]) -> dict[str, str]:
        return {**environment, "CALLBACK_HOSTS": ""}

    def test_the_parameter_is_unknown(self, front: FlaskClient) -> None:
        answer = front.post(PATH, json={"type": "jupyter", "callbackUrl": "https://h/"})
        assert answer.status_code == 400 and answer.json is not None
        assert answer.json["message"] == (
            "Parameter 'callbackUrl' is not allowed. Allowed params are 'type,script,input,ttl'"
        )


def test_hosts_without_a_secret_are_a_configuration_error(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="CALLBACK_SECRET is not set"):
        config.load({**environment, "CALLBACK_SECRET": ""})
