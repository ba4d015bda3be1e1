"""Servers that are away: 503 with Retry-After, never "vanished", never 500 (contract 3, 6.1.4)."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from devstack.mariadb import MariaDB
from devstack.valkey import Valkey
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import (
    accepted_job,
    finished_job,
    require_error,
    require_not_found,
    require_retry_after,
    require_unavailable,
)
from tests.contract.server_look import database_exists, require_login
from tests.faults.rows import expire, wait_dropped
from tests.support.client import Answer, Client
from tests.support.deadlines import DEADLINE, wait_until
from tests.support.servers import mysql_state_url
from tests.support.service import Service

ASYNC = {"Prefer": "respond-async"}
UNKNOWN = "888888888888"
#: Seconds that a delete or kill waits for a worker: the longest that is allowed.
DELETE_WAIT = 60


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB of this module alone, to be stopped and started."""
    if MariaDB.missing():
        pytest.skip("mariadbd is not installed: apt-get install mariadb-server")
    server = MariaDB(tmp_path_factory.mktemp("fragile-mariadb"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def dependent(make_service: ServiceMaker, fragile: MariaDB) -> Iterator[Service]:
    """A service whose jobs are not tried again, so that callers see the first failure."""
    environment = {
        "JOB_RETRY_SECONDS": "0",
        "ENGINE_TIMEOUT_SECONDS": "2",
        # A delete is to hear of the failure, however late the worker starts.
        "DELETE_WAIT_SECONDS": str(DELETE_WAIT),
        "MYSQL_TRANSFORMATIONS_LIFETIME": "1h",
        "MYSQL_TRANSFORMATIONS_MAX_LIFETIME": "1h",
    }
    with make_service(environment, on=fragile) as service:
        yield service


def path_of(body: dict[str, Any]) -> str:
    return f"/provisioning/mysql/{body['id']}"


def wait_until_back(client: Client, path: str) -> Answer:
    """Return the first answer after the server's return that is no outage."""
    answer = wait_until(lambda: back_or_none(client, path), what="the server back")
    assert answer is not None
    return answer


def back_or_none(client: Client, path: str) -> Answer | None:
    answer = client.get(path)
    return None if answer.status == 503 else answer


@contextmanager
def outage(server: MariaDB, kind: str, client: Client, path: str) -> Iterator[None]:
    """Kill or freeze the server for a block; afterwards the service has noticed its return."""
    getattr(server, kind)()
    try:
        yield
    finally:
        if kind == "kill":
            server.start()
        else:
            server.resume()
        wait_until_back(client, path)


@pytest.mark.parametrize("kind", ["kill", "pause"])
def test_a_server_that_is_away_is_503_and_nothing_has_vanished(
    dependent: Service, fragile: MariaDB, kind: str
) -> None:
    client, newcomer = dependent.client(), dependent.client()
    created = client.create("sandbox")
    path = path_of(created)
    with outage(fragile, kind, client, path):
        for answer in (
            client.get(path),
            client.get("/provisioning/mysql?type=sandbox"),
            client.post("/provisioning/mysql", {"type": "sandbox"}),
            client.delete(path),
            client.post(f"{path}/kill"),
            newcomer.post("/provisioning/mysql", {"type": "sandbox"}),
        ):
            require_unavailable(answer)
        # Lookup comes before the server, and health does not depend on it.
        require_not_found(client.get(f"/provisioning/mysql/{UNKNOWN}"))
        require_not_found(newcomer.get("/provisioning/mysql?type=sandbox"))
        assert client.get("/health/live").status == client.get("/health/ready").status == 200
    assert client.get(path).body["credentials"] == created["credentials"]
    assert client.create("sandbox") == created
    require_login(newcomer.create("sandbox")["credentials"])


def test_the_lifetime_limit_comes_before_the_server(dependent: Service, fragile: MariaDB) -> None:
    client = dependent.client()
    path = path_of(client.create("transformations"))
    with outage(fragile, "kill", client, path):
        answer = client.post(f"{path}/extend")
    message = "The sandbox cannot be extended."
    require_error(answer, 400, "cannot_extend", message, word="warning")


def test_a_job_whose_server_goes_away_is_503_and_the_credential_comes_back(
    dependent: Service, fragile: MariaDB
) -> None:
    client = dependent.client()
    dropped, killed = client.create("sandbox"), client.create("transformations")
    job = accepted_job(client.post(f"{path_of(killed)}/kill", headers=ASYNC))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.delete, path_of(dropped))
        wait_until(lambda: client.get(path_of(dropped)).status == 404, what="delete accepted")
        fragile.kill()
        worker, beat = dependent.start_worker(), dependent.start_beat()
        try:
            require_unavailable(answer.result())
            record = wait_until(lambda: error_record(client, job), what="the kill's job ended")
        finally:
            fragile.start()
            beat.stop()
            worker.stop()
            wait_until_back(client, path_of(dropped))
    assert record is not None
    assert record["error"] == "application"
    assert record["result"]["message"] == "Internal error occurred, please contact support"
    assert record["result"]["exceptionId"] in dependent.logs()
    assert set(record["result"]) == {"message", "exceptionId"}
    assert record["isFinished"] is True
    back = client.get(path_of(dropped))
    assert back.status == 200
    assert back.body["credentials"] == dropped["credentials"]
    require_login(dropped["credentials"])


def error_record(client: Client, job: int) -> dict[str, Any] | None:
    record: dict[str, Any] = client.get(f"/queue/job/{job}").body
    return record if record["status"] == "error" else None


def test_a_state_database_that_is_away_is_503(make_service: ServiceMaker, fragile: MariaDB) -> None:
    state_url = mysql_state_url(fragile, "state_of_outages")
    with make_service({}, state_url=state_url) as service:
        client = service.client()
        created = client.create("sandbox")
        path = path_of(created)
        fragile.kill()
        try:
            for answer in (
                client.get(path),
                client.post("/provisioning/mysql", {"type": "sandbox"}),
                client.post(f"{path}/extend"),
                client.delete(path),
                client.get("/queue/job/1"),
            ):
                assert answer.status == 503, answer
                require_retry_after(answer)
                assert answer.body["code"] == 503
                assert answer.body["error"] == "Application error"
            ready = client.get("/health/ready")
            assert (ready.status, ready.body["status"]) == (503, "error")
            require_retry_after(ready)
            assert client.get("/health/live").status == 200
        finally:
            fragile.start()
        wait_until(lambda: client.get("/health/ready").status == 200, what="ready")
        assert wait_until_back(client, path).body["credentials"] == created["credentials"]


# Broker ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("fragile-valkey"))
    server.start()
    yield server
    server.stop()


def test_without_a_broker_creates_go_on_and_drops_finish_after_its_return(
    make_service: ServiceMaker, broker: Valkey, mariadb: MariaDB
) -> None:
    environment = {"DELETE_WAIT_SECONDS": str(DELETE_WAIT)}
    with make_service(environment, broker=broker, workers=1, beats=1) as service:
        client = service.client()
        created = client.create("sandbox")
        assert client.post(f"{path_of(created)}/kill").body == {"status": "ok"}
        wait_for_sweep(service)
        broker.kill()
        try:
            jobs = use_without_broker(client, created)
        finally:
            broker.start()
        wait_until(
            lambda: not database_exists(mariadb, created["credentials"]["db"]),
            what="the database dropped after the broker's return",
        )
        for job in jobs:
            assert finished_job(client, job)["status"] == "success"
        assert client.delete(path_of(client.create("transformations"))).body == {"status": "ok"}


def wait_for_sweep(service: Service) -> None:
    """Wait until the beat is up too: its start on a busy machine is not what is measured."""
    number = int(service.client().create("transformations")["id"])
    expire(service, [number])
    wait_dropped(service, [number], timeout=DEADLINE)


def use_without_broker(client: Client, created: dict[str, Any]) -> list[int]:
    """Do everything a caller may do; return the jobs that were accepted."""
    require_login(client.create("transformations")["credentials"])
    path = path_of(created)
    assert client.get(path).status == 200
    assert client.post(f"{path}/extend").status == 200
    jobs = []
    for method, where in (("POST", f"{path}/kill"), ("DELETE", path)):
        start = time.monotonic()
        answer = client(method, where, headers={"Prefer": f"wait={DELETE_WAIT}"})
        jobs.append(accepted_job(answer))
        # A worker that cannot be told is not waited for.
        assert time.monotonic() - start < DELETE_WAIT / 2
    require_not_found(client.get(path))
    assert client.get("/health/ready").status == 200
    return jobs
