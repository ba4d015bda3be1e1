"""GET of credentials, by type and by id (contract 6.2, 4)."""

import pytest

from devstack.mariadb import MariaDB
from tests.contract.expectations import require_error, require_headers, require_not_found
from tests.contract.server_look import run
from tests.support.client import Client
from tests.support.deadlines import wait_until
from tests.support.servers import connect_as
from tests.support.service import Service

KEYS = {"id", "status", "touch", "inUse", "credentials", "expiration", "canExtend"}
TYPES = ("sandbox", "transformations")
ACTIONS = [("GET", ""), ("POST", "/extend"), ("POST", "/kill"), ("DELETE", "")]


@pytest.mark.parametrize("type_", TYPES)
def test_reads_by_type_and_by_id_give_the_created_credential(
    service: Service, client: Client, type_: str
) -> None:
    created = client.create(type_)
    other_front = service.client(client.token, front=1)
    expected = {key: created[key] for key in KEYS - {"inUse"}} | {"inUse": False}
    for path in (f"/provisioning/mysql/{created['id']}", f"/provisioning/mysql?type={type_}"):
        for reader in (client, other_front):
            answer = reader.get(path)
            assert answer.status == 200
            require_headers(answer)
            assert answer.body == expected


def test_the_default_type_of_a_read_is_transformations(client: Client) -> None:
    client.create("sandbox")
    require_not_found(client.get("/provisioning/mysql"))
    created = client.create("transformations")
    assert client.get("/provisioning/mysql").body["id"] == created["id"]


def test_none_of_the_type_is_not_found(client: Client) -> None:
    client.create("transformations")
    require_not_found(client.get("/provisioning/mysql?type=sandbox"))


def test_reads_and_repeats_do_not_touch(client: Client) -> None:
    created = client.create()
    path = f"/provisioning/mysql/{created['id']}"
    moved_on = client.post(f"{path}/extend").body["touch"]
    assert moved_on > created["touch"]
    for _ in range(3):
        client.get(path)
        client.get("/provisioning/mysql?type=sandbox")
        assert client.create()["touch"] == moved_on
    assert client.get(path).body["touch"] == moved_on


@pytest.mark.parametrize("method,end", ACTIONS)
@pytest.mark.parametrize(
    "id_",
    [
        "0",
        "01",
        "1e3",
        "1.0",
        "-1",
        "+1",
        "%201",
        "abc",
        "%EF%BC%91",
        "%D9%A1",
        "%C2%B2",
        "999999999999999999",
        "9999999999999999999",
        "9" * 100,
        "1'",
        "%00",
        "..",
        "%25",
    ],
)
def test_an_id_of_another_form_is_an_unknown_id(
    client: Client, id_: str, method: str, end: str
) -> None:
    require_not_found(client(method, f"/provisioning/mysql/{id_}{end}"))


def test_an_id_with_a_leading_zero_is_not_the_id_without(client: Client) -> None:
    created = client.create()
    require_not_found(client.get(f"/provisioning/mysql/0{created['id']}"))
    require_not_found(client.delete(f"/provisioning/mysql/0{created['id']}"))
    assert client.get(f"/provisioning/mysql/{created['id']}").status == 200


@pytest.mark.parametrize("method,end", ACTIONS)
def test_a_foreign_id_is_an_unknown_id(service: Service, method: str, end: str) -> None:
    owner = service.client(service.token(project="9001", person="9001"))
    same_project = service.client(service.token(project="9001", person="9001"))
    other_project = service.client(service.token(project="9002", person="9001"))
    created = owner.create()
    for client in (same_project, other_project):
        require_not_found(client(method, f"/provisioning/mysql/{created['id']}{end}"))
    unchanged = owner.get(f"/provisioning/mysql/{created['id']}").body
    assert unchanged["touch"] == created["touch"]
    with connect_as(created["credentials"]):
        pass


@pytest.mark.parametrize("backend", ["snowflake", "redshift-workspace"])
@pytest.mark.parametrize("method,end", ACTIONS)
def test_an_id_of_another_backend_is_an_unknown_id(
    client: Client, backend: str, method: str, end: str
) -> None:
    created = client.create()
    require_not_found(client(method, f"/provisioning/{backend}/{created['id']}{end}"))
    assert client.get(f"/provisioning/mysql/{created['id']}").status == 200


def test_a_docker_read_of_a_mysql_id_is_not_found(client: Client) -> None:
    require_not_found(client.get(f"/provisioning/docker/{client.create()['id']}"))


def test_errors_for_foreign_and_unknown_ids_cannot_be_told_apart(service: Service) -> None:
    created = service.client().create()
    stranger = service.client()
    bodies = []
    for id_ in (created["id"], "888888888888"):
        body = stranger.get(f"/provisioning/mysql/{id_}").body
        body.pop("exceptionId")
        bodies.append(body)
    assert bodies[0] == bodies[1]


# inUse ----------------------------------------------------------------------------------


def in_use(client: Client, id_: str) -> object:
    return client.get(f"/provisioning/mysql/{id_}").body["inUse"]


@pytest.mark.parametrize("type_", TYPES)
def test_in_use_is_true_from_the_first_moment_of_a_connection_until_its_end(
    service: Service, client: Client, type_: str
) -> None:
    created = client.create(type_)
    other_front = service.client(client.token, front=1)
    assert in_use(client, created["id"]) is False
    with connect_as(created["credentials"]):
        assert in_use(client, created["id"]) is True
        assert in_use(other_front, created["id"]) is True
        assert client.get(f"/provisioning/mysql?type={type_}").body["inUse"] is True
    for reader in (client, other_front):
        wait_until(
            lambda reader=reader: in_use(reader, created["id"]) is False,  # type: ignore[misc]
            what="inUse false after the end of the connection",
        )


def test_in_use_is_true_at_once_also_after_many_reads(client: Client) -> None:
    created = client.create("transformations")
    for _ in range(12):
        assert in_use(client, created["id"]) is False
    with connect_as(created["credentials"]):
        assert in_use(client, created["id"]) is True


def test_in_use_holds_while_one_of_several_connections_is_open(client: Client) -> None:
    created = client.create("transformations")
    first, second = (connect_as(created["credentials"]) for _ in range(2))
    first.close()
    assert in_use(client, created["id"]) is True
    run(second, "SELECT 1")
    second.close()
    wait_until(lambda: in_use(client, created["id"]) is False, what="no use")


def test_somebody_elses_connection_is_no_use(service: Service, mariadb: MariaDB) -> None:
    created, other = service.client().create(), service.client()
    mine = other.create()
    with connect_as(created["credentials"]), mariadb.connect() as admin:
        run(admin, f"USE `{mine['credentials']['db']}`")
        assert in_use(other, mine["id"]) is False


def test_unknown_query_types_do_not_leak_into_a_read_by_id(client: Client) -> None:
    created = client.create("sandbox")
    answer = client.get(f"/provisioning/mysql/{created['id']}?type=transformations")
    assert answer.status == 200
    error = client.get("/provisioning/mysql?type=Sandbox")
    require_error(error, 400, "type_invalid", None)
