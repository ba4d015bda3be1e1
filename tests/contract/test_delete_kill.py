"""Sync delete and kill (contract section 7)."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from devstack.mariadb import MariaDB
from tests.contract.expectations import (
    accepted_job,
    finished_job,
    require_headers,
    require_not_found,
)
from tests.contract.raw_http import send_and_hang_up
from tests.contract.server_look import (
    RunningStatement,
    database_exists,
    databases_of_project,
    grants_on,
    require_dead,
    require_login,
    require_no_login,
    run,
    user_exists,
)
from tests.support.client import Client
from tests.support.deadlines import wait_until
from tests.support.servers import connect_as
from tests.support.service import Service

TYPES = ("sandbox", "transformations")
ASYNC = {"Prefer": "respond-async"}


def credential_path(body: dict[str, object]) -> str:
    return f"/provisioning/mysql/{body['id']}"


# Delete ---------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", TYPES)
def test_delete_ends_sessions_and_removes_everything(
    client: Client, mariadb: MariaDB, type_: str
) -> None:
    created = client.create(type_)
    credentials = created["credentials"]
    idle = connect_as(credentials)
    run(idle, "CREATE TABLE t (a INT)")
    busy = RunningStatement(credentials)
    answer = client.delete(credential_path(created))
    assert (answer.status, answer.body) == (200, {"status": "ok"})
    require_headers(answer)
    require_dead(idle)
    busy.require_failed()
    require_no_login(credentials)
    assert not database_exists(mariadb, credentials["db"])
    assert not user_exists(mariadb, credentials["user"])
    assert grants_on(mariadb, credentials["db"]) == 0


def test_delete_is_not_held_up_by_an_open_transaction(client: Client, mariadb: MariaDB) -> None:
    created = client.create("transformations")
    connection = connect_as(created["credentials"])
    run(connection, "CREATE TABLE t (a INT) ENGINE=InnoDB")
    run(connection, "BEGIN")
    run(connection, "INSERT INTO t VALUES (1)")
    assert client.delete(credential_path(created)).body == {"status": "ok"}
    require_dead(connection)
    assert not database_exists(mariadb, created["credentials"]["db"])


@pytest.mark.parametrize("type_", TYPES)
def test_a_second_delete_and_all_else_is_not_found(client: Client, type_: str) -> None:
    created = client.create(type_)
    path = credential_path(created)
    assert client.delete(path).status == 200
    require_not_found(client.delete(path))
    require_not_found(client.get(path))
    require_not_found(client.get(f"/provisioning/mysql?type={type_}"))
    require_not_found(client.post(f"{path}/extend"))
    require_not_found(client.post(f"{path}/kill"))


def test_deletes_at_the_same_moment_share_one_job(service: Service, client: Client) -> None:
    created = client.create("transformations")
    clients = [service.client(client.token, front=n % 2) for n in range(10)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda c: c.delete(credential_path(created)), clients))
    # Those that come after the first was told find nothing.
    assert {answer.status for answer in answers} - {404} == {200}
    assert len(client.get("/queue/jobs?q=command:delete").body) == 1


@pytest.mark.parametrize("type_", TYPES)
def test_after_a_delete_a_create_makes_a_new_object(client: Client, type_: str) -> None:
    first = client.create(type_)
    client.delete(credential_path(first))
    second = client.create(type_)
    assert second["id"] != first["id"]
    assert second["credentials"]["db"] != first["credentials"]["db"]
    assert second["credentials"]["password"] != first["credentials"]["password"]
    require_login(second["credentials"])


def test_delete_leaves_other_credentials_alone(service: Service, client: Client) -> None:
    sandbox, transformations = client.create("sandbox"), client.create("transformations")
    stranger = service.client().create()
    open_elsewhere = connect_as(transformations["credentials"])
    client.delete(credential_path(sandbox))
    run(open_elsewhere, "SELECT 1")
    require_login(transformations["credentials"])
    require_login(stranger["credentials"])


# Kill -----------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", TYPES)
def test_kill_ends_every_session_and_keeps_the_rest(client: Client, type_: str) -> None:
    created = client.create(type_)
    first, second = (connect_as(created["credentials"]) for _ in range(2))
    run(first, "CREATE TABLE kept (a INT)")
    busy = RunningStatement(created["credentials"])
    before = client.get(credential_path(created)).body
    answer = client.post(f"{credential_path(created)}/kill")
    assert (answer.status, answer.body) == (200, {"status": "ok"})
    require_headers(answer)
    require_dead(first)
    require_dead(second)
    busy.require_failed()
    with connect_as(created["credentials"]) as connection:
        assert run(connection, "SHOW TABLES") == (("kept",),)
    after = client.get(credential_path(created)).body
    assert {**after, "inUse": None} == {**before, "inUse": None}


@pytest.mark.parametrize("type_", TYPES)
def test_kill_with_nothing_running_is_fine(client: Client, type_: str) -> None:
    path = f"{credential_path(client.create(type_))}/kill"
    for _ in range(2):
        answer = client.post(path)
        assert (answer.status, answer.body) == (200, {"status": "ok"})


def test_kill_leaves_other_logins_alone(service: Service, client: Client) -> None:
    created, other_type = client.create("sandbox"), client.create("transformations")
    stranger = service.client().create("sandbox")
    others = [connect_as(body["credentials"]) for body in (other_type, stranger)]
    client.post(f"{credential_path(created)}/kill")
    for connection in others:
        run(connection, "SELECT 1")
        connection.close()


# Prefer ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["respond-async", "Respond-Async", "wait=5, respond-async"])
def test_respond_async_answers_202_and_the_work_goes_on(
    client: Client, mariadb: MariaDB, value: str
) -> None:
    created = client.create("transformations")
    path = credential_path(created)
    killed = client.post(f"{path}/kill", headers={"Prefer": value})
    assert killed.headers.get_all("Preference-Applied") == ["respond-async"]
    dropped = client.delete(path, headers={"Prefer": value})
    assert dropped.headers.get_all("Preference-Applied") == ["respond-async"]
    require_not_found(client.get(path))
    assert finished_job(client, accepted_job(killed))["status"] == "success"
    assert finished_job(client, accepted_job(dropped))["status"] == "success"
    assert not database_exists(mariadb, created["credentials"]["db"])


@pytest.mark.parametrize("value", ["wait=20", "wait=60", "wait=61", "wait=99999999999", "WAIT=20"])
def test_a_preferred_wait_answers_as_soon_as_the_work_is_done(client: Client, value: str) -> None:
    path = credential_path(client.create("transformations"))
    for answer in (
        client.post(f"{path}/kill", headers={"Prefer": value}),
        client.delete(path, headers={"Prefer": value}),
    ):
        assert (answer.status, answer.body) == (200, {"status": "ok"})
        assert answer.headers.get("Preference-Applied") is None


@pytest.mark.parametrize("value", ["wait=0", "wait=00"])
def test_a_wait_of_zero_does_not_wait(client: Client, mariadb: MariaDB, value: str) -> None:
    created = client.create("transformations")
    answer = client.delete(credential_path(created), headers={"Prefer": value})
    # The worker may already be done when the answer is written.
    assert answer.status in (200, 202)
    assert answer.headers.get("Preference-Applied") is None
    gone = lambda: not database_exists(mariadb, created["credentials"]["db"])  # noqa: E731
    wait_until(gone, what="the database gone")


def test_the_work_goes_on_when_the_caller_hangs_up(
    service: Service, mariadb: MariaDB, project: str
) -> None:
    client = service.client(service.token(project=project))
    created = client.create("transformations")
    head = f"DELETE {credential_path(created)} HTTP/1.1\r\nHost: a\r\n"
    send_and_hang_up(client.port, f"{head}X-StorageApi-Token: {client.token}\r\n\r\n".encode())
    wait_until(
        lambda: databases_of_project(mariadb, project) == [],
        what="the database gone",
    )
    require_not_found(client.get(credential_path(created)))
