"""POST /provisioning/{backend}: create or return (contract 6.1)."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest

from devstack.mariadb import MariaDB
from tests.contract.expectations import CREDENTIAL_KEYS, TIME, require_headers, require_not_found
from tests.contract.server_look import (
    database_exists,
    databases_of_project,
    require_login,
    run_as_root,
    user_exists,
)
from tests.support.client import Answer, Client
from tests.support.service import Service

KEYS = {"id", "status", "touch", "url", "credentials", "expiration", "canExtend"}
CONNECTIONS = 50


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
def test_create_answers_the_whole_credential(client: Client, mariadb: MariaDB, type_: str) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    answer = client.post("/provisioning/mysql", {"type": type_})
    assert answer.status == 201
    require_headers(answer)
    body = answer.body
    assert set(body) == KEYS
    assert isinstance(body["id"], str) and re.fullmatch("[1-9][0-9]{0,17}", body["id"])
    assert body["status"] == "ok"
    assert body["url"] == f"mysql/{body['id']}"
    assert type(body["touch"]) is int
    assert before.timestamp() <= body["touch"] <= datetime.now(UTC).timestamp()
    assert TIME.fullmatch(body["expiration"])
    assert body["canExtend"] is True
    require_credentials(body["credentials"], body["id"], mariadb)


def require_credentials(credentials: dict[str, Any], id_: str, mariadb: MariaDB) -> None:
    assert set(credentials) == CREDENTIAL_KEYS
    assert credentials["id"] == id_
    assert credentials["hostname"] == mariadb.host
    assert type(credentials["port"]) is int and credentials["port"] == mariadb.port
    assert re.fullmatch("[A-Za-z0-9_]{16,}", credentials["password"])
    require_login(credentials)


@pytest.mark.parametrize("type_,days", [("sandbox", 14), ("transformations", 7)])
def test_expiration_is_touch_and_the_default_lifetime(
    client: Client, type_: str, days: int
) -> None:
    body = client.create(type_)
    end = datetime.fromtimestamp(body["touch"], UTC) + timedelta(days=days)
    assert body["expiration"] == end.isoformat(timespec="seconds")


@pytest.mark.parametrize("body", [None, {}, {"type": "transformations"}])
def test_the_default_type_is_transformations(client: Client, body: Any) -> None:
    first = client.create("transformations")
    assert client.post("/provisioning/mysql", body).body == first


@pytest.mark.parametrize("type_", ["sandbox", "transformations"])
def test_a_repeat_answers_201_and_the_same(service: Service, client: Client, type_: str) -> None:
    first = client.create(type_)
    for front in (0, 1):
        again = service.client(client.token, front=front).post(
            "/provisioning/mysql", {"type": type_}
        )
        assert again.status == 201
        assert again.body == first


def test_types_of_one_token_are_separate_objects(client: Client) -> None:
    sandbox, transformations = client.create("sandbox"), client.create("transformations")
    assert sandbox["id"] != transformations["id"]
    for key in ("db", "user", "password"):
        assert sandbox["credentials"][key] != transformations["credentials"][key]


def test_tokens_of_one_project_have_objects_of_their_own(service: Service, project: str) -> None:
    first, second = (service.client(service.token(project=project)) for _ in range(2))
    ids = {client.create(type_)["id"] for client in (first, second) for type_ in TYPES}
    assert len(ids) == 4


TYPES = ("sandbox", "transformations")


def test_passwords_are_never_the_same(service: Service) -> None:
    passwords = {
        service.client().create("transformations")["credentials"]["password"] for _ in "abcde"
    }
    assert len(passwords) == 5


@pytest.mark.parametrize("type_", TYPES)
def test_fifty_identical_creates_at_once_make_one_object(
    service: Service, mariadb: MariaDB, project: str, type_: str
) -> None:
    token = service.token(project=project, person=project)
    clients = [service.client(token, front=n % 2) for n in range(CONNECTIONS)]
    barrier = Barrier(CONNECTIONS)

    def create(client: Client) -> Answer:
        barrier.wait()
        return client.post("/provisioning/mysql", {"type": type_})

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answers = list(pool.map(create, clients))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    credentials = answers[0].body["credentials"]
    assert databases_of_project(mariadb, project) == [credentials["db"]]
    assert grants_of(mariadb, credentials["user"]) == 1
    require_login(credentials)


def grants_of(mariadb: MariaDB, user: str) -> int:
    return int(run_as_root(mariadb, "SELECT COUNT(*) FROM mysql.db WHERE User = %s", user)[0][0])


def test_creates_of_many_callers_at_once_all_work(service: Service) -> None:
    clients = [service.client(front=n % 2) for n in range(20)]
    with ThreadPoolExecutor(len(clients)) as pool:
        bodies = list(pool.map(lambda client: client.create("transformations"), clients))
    assert len({body["id"] for body in bodies}) == len(clients)
    assert len({body["credentials"]["db"] for body in bodies}) == len(clients)


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("vanished", ["database", "user"])
def test_what_vanished_behind_the_service_is_made_anew(
    client: Client, mariadb: MariaDB, type_: str, vanished: str
) -> None:
    first = client.create(type_)
    if vanished == "database":
        run_as_root(mariadb, f"DROP DATABASE `{first['credentials']['db']}`")
    else:
        run_as_root(mariadb, f"DROP USER `{first['credentials']['user']}`@`%`")
    require_not_found(client.get(f"/provisioning/mysql/{first['id']}"))
    require_not_found(client.get(f"/provisioning/mysql?type={type_}"))
    second = client.create(type_)
    assert second["id"] != first["id"]
    assert second["credentials"]["db"] != first["credentials"]["db"]
    require_login(second["credentials"])
    assert client.get(f"/provisioning/mysql?type={type_}").body["id"] == second["id"]
    require_not_found(client.get(f"/provisioning/mysql/{first['id']}"))


def test_ids_are_never_reused(client: Client, mariadb: MariaDB) -> None:
    seen = []
    for _ in range(3):
        body = client.create()
        seen.append(int(body["id"]))
        assert client.delete(f"/provisioning/mysql/{body['id']}").status == 200
        assert not database_exists(mariadb, body["credentials"]["db"])
        assert not user_exists(mariadb, body["credentials"]["user"])
    assert len(set(seen)) == 3
