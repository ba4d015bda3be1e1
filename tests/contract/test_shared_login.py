"""The sandbox login that one person has over all projects (contract 10.1 to 10.3)."""

from concurrent.futures import ThreadPoolExecutor

import pymysql
import pytest

from devstack.mariadb import MariaDB
from tests.contract.conftest import new_project
from tests.contract.server_look import (
    Connection,
    database_exists,
    require_dead,
    require_login,
    require_no_login,
    run,
    run_as_root,
    user_exists,
)
from tests.support.client import Client
from tests.support.deadlines import wait_until
from tests.support.servers import connect_as
from tests.support.service import Service


@pytest.fixture
def pair(service: Service) -> tuple[Client, Client]:
    """Two tokens of one person in two projects."""
    person = new_project()
    first, second = (service.token(project=new_project(), person=person) for _ in range(2))
    return service.client(first), service.client(second, front=1)


def databases_seen(credentials: dict[str, object]) -> set[str]:
    with connect_as(credentials) as connection:
        rows = run(connection, "SHOW DATABASES")
    return {name for (name,) in rows} - {"information_schema"}


def drop(client: Client, body: dict[str, object]) -> None:
    answer = client.delete(f"/provisioning/mysql/{body['id']}")
    assert (answer.status, answer.body) == (200, {"status": "ok"})


def test_one_person_has_one_login_over_projects_and_a_database_in_each(
    pair: tuple[Client, Client],
) -> None:
    first, second = (client.create()["credentials"] for client in pair)
    assert (first["user"], first["password"]) == (second["user"], second["password"])
    assert first["db"] != second["db"]
    assert databases_seen(first) == databases_seen(second) == {first["db"], second["db"]}
    require_login(first)
    require_login(second)
    with connect_as(first) as connection:
        run(connection, f"CREATE TABLE `{second['db']}`.t (a INT)")


def test_dropping_one_leaves_the_other_working(
    pair: tuple[Client, Client], mariadb: MariaDB
) -> None:
    first, second = (client.create() for client in pair)
    here, there = connect_as(first["credentials"]), connect_as(second["credentials"])
    drop(pair[0], first)
    require_dead(here)
    run(there, "SELECT 1")
    there.close()
    assert not database_exists(mariadb, first["credentials"]["db"])
    assert databases_seen(second["credentials"]) == {second["credentials"]["db"]}
    require_login(second["credentials"])
    assert pair[1].get(f"/provisioning/mysql/{second['id']}").status == 200
    with pytest.raises(pymysql.OperationalError):
        connect_as(first["credentials"])


def test_the_login_goes_with_the_last_database(
    pair: tuple[Client, Client], mariadb: MariaDB
) -> None:
    first, second = (client.create() for client in pair)
    drop(pair[0], first)
    idle = connect_as(second["credentials"])
    drop(pair[1], second)
    require_dead(idle)
    require_no_login(second["credentials"])
    assert not user_exists(mariadb, second["credentials"]["user"])


def test_after_the_last_drop_a_person_starts_with_a_new_password(
    pair: tuple[Client, Client],
) -> None:
    first = pair[0].create()
    drop(pair[0], first)
    second = pair[1].create()
    assert second["credentials"]["password"] != first["credentials"]["password"]
    require_login(second["credentials"])


def test_kill_and_in_use_concern_the_sessions_in_this_database(
    pair: tuple[Client, Client],
) -> None:
    first, second = (client.create() for client in pair)
    paths = [f"/provisioning/mysql/{body['id']}" for body in (first, second)]
    here, there = connect_as(first["credentials"]), connect_as(second["credentials"])
    assert pair[0].get(paths[0]).body["inUse"] is True
    assert pair[1].get(paths[1]).body["inUse"] is True
    assert pair[0].post(f"{paths[0]}/kill").body == {"status": "ok"}
    require_dead(here)
    run(there, "SELECT 1")
    wait_until(lambda: pair[0].get(paths[0]).body["inUse"] is False, what="no use of one")
    assert pair[1].get(paths[1]).body["inUse"] is True
    there.close()


def test_a_session_without_a_database_belongs_to_a_single_sandbox(
    pair: tuple[Client, Client],
) -> None:
    first = pair[0].create()
    path = f"/provisioning/mysql/{first['id']}"
    session = connect_to_no_database(first["credentials"])
    assert pair[0].get(path).body["inUse"] is True
    assert pair[0].post(f"{path}/kill").body == {"status": "ok"}
    require_dead(session)


def test_a_session_without_a_database_belongs_to_none_of_several(
    pair: tuple[Client, Client],
) -> None:
    first, second = (client.create() for client in pair)
    session = connect_to_no_database(first["credentials"])
    for client, body in zip(pair, (first, second), strict=True):
        path = f"/provisioning/mysql/{body['id']}"
        assert client.get(path).body["inUse"] is False
        assert client.post(f"{path}/kill").body == {"status": "ok"}
    run(session, "SELECT 1")
    session.close()


def connect_to_no_database(credentials: dict[str, object]) -> Connection:
    # The catalog is where a client without a database looks; it makes none of ours current.
    connection: Connection = connect_as({**credentials, "db": ""})
    run(connection, "SELECT 1")
    return connection


def test_two_people_never_share(service: Service, project: str) -> None:
    bodies = [
        service.client(service.token(project=project, person=person)).create()
        for person in (new_project(), new_project())
    ]
    first, second = (body["credentials"] for body in bodies)
    assert first["user"] != second["user"]
    assert first["password"] != second["password"]
    assert databases_seen(first) == {first["db"]}
    with connect_as(first) as connection, pytest.raises(pymysql.OperationalError):
        run(connection, f"USE `{second['db']}`")


def test_tokens_without_a_person_do_not_share(service: Service, project: str) -> None:
    first, second = (
        service.client(service.token(project=project)).create()["credentials"] for _ in range(2)
    )
    assert first["user"] != second["user"]
    assert databases_seen(first) == {first["db"]}


def test_two_tokens_of_one_person_in_one_project_share_too(service: Service, project: str) -> None:
    person = new_project()
    first, second = (
        service.client(service.token(project=project, person=person)).create() for _ in range(2)
    )
    assert first["id"] != second["id"]
    assert first["credentials"]["user"] == second["credentials"]["user"]
    assert first["credentials"]["db"] != second["credentials"]["db"]


def test_transformations_of_one_person_do_not_share(pair: tuple[Client, Client]) -> None:
    first, second = (client.create("transformations")["credentials"] for client in pair)
    assert first["user"] != second["user"]
    assert first["password"] != second["password"]
    sandbox = pair[0].create("sandbox")["credentials"]
    assert databases_seen(first) == {first["db"]}
    assert databases_seen(sandbox) == {sandbox["db"]}


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
def test_an_underscore_in_a_name_is_no_wildcard(
    client: Client, mariadb: MariaDB, type_: str
) -> None:
    credentials = client.create(type_)["credentials"]
    lookalike = credentials["db"].replace("_", "x")
    run_as_root(mariadb, f"CREATE DATABASE `{lookalike}`")
    try:
        assert databases_seen(credentials) == {credentials["db"]}
        with connect_as(credentials) as connection, pytest.raises(pymysql.OperationalError):
            run(connection, f"USE `{lookalike}`")
    finally:
        run_as_root(mariadb, f"DROP DATABASE `{lookalike}`")


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
def test_a_login_has_no_rights_beyond_its_databases(client: Client, type_: str) -> None:
    credentials = client.create(type_)["credentials"]
    with connect_as(credentials) as connection:
        for statement in (
            "SELECT * FROM mysql.user",
            "CREATE DATABASE provisioning_trial",
            "CREATE USER provisioning_trial",
            "GRANT SELECT ON *.* TO CURRENT_USER",
            "SET GLOBAL max_connections = 5",
        ):
            with pytest.raises(pymysql.Error):
                run(connection, statement)
        seen = run(connection, "SELECT DISTINCT user FROM information_schema.processlist")
        assert seen == ((credentials["user"],),)


def test_creates_of_one_person_at_the_same_moment_share_one_login(service: Service) -> None:
    person = new_project()
    clients = [
        service.client(service.token(project=new_project(), person=person), front=n % 2)
        for n in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda client: client.create()["credentials"], clients))
    assert len({(one["user"], one["password"]) for one in found}) == 1
    assert len({one["db"] for one in found}) == 8
    assert databases_seen(found[0]) == {one["db"] for one in found}
