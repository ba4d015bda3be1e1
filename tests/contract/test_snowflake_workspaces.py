"""Workspaces on Snowflake (contract sections 6 and 10), on the simulator as a process."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from snowflake.connector.errors import Error

from tests.contract.conftest import ServiceMaker
from tests.support.client import Client
from tests.support.deadlines import ENDLESS, wait_until
from tests.support.service import Service
from tests.support.snowflake import Account, run, simulated_account

PATH = "/provisioning/snowflake"
TYPES = ("transformations", "sandbox", "writer", "luckyguess")
TIMED_OUT = 630


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with simulated_account(tmp_path_factory.mktemp("snowflake")) as account:
        yield account


@pytest.fixture(scope="module")
def service(make_service: ServiceMaker, account: Account) -> Iterator[Service]:
    login = f"ops:{account.password.replace(' ', '%20')}@127.0.0.1:{account.port}"
    options = "account=simulator&warehouse=wh&protocol=http"
    environment = {
        "SNOWFLAKE_URL": f"snowflake://{login}?{options}",
        "SNOWFLAKE_WRITER_STATEMENT_SECONDS": "1",
    }
    with make_service(environment, workers=1, beats=1) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Client:
    return service.client()


def create(client: Client, type_: str = "sandbox") -> dict[str, Any]:
    answer = client.post(PATH, {"type": type_})
    assert answer.status == 201, answer
    body: dict[str, Any] = answer.body
    return body


def test_a_workspace_has_the_keys_of_the_table(service: Service, client: Client) -> None:
    body = create(client)
    number, prefix = body["workspaceId"], service.installation.prefix.upper()
    assert isinstance(number, str)
    credentials = dict(body["credentials"])
    password = credentials.pop("password")
    assert re.fullmatch("[A-Za-z0-9_]{16,}", password)
    assert credentials == {
        "id": body["id"],
        "hostname": "127.0.0.1",
        "port": credentials["port"],
        "db": "SAPI_70",
        "schema": f"{prefix}WORKSPACE_{number}",
        "warehouse": "WH",
        "workspaceId": number,
        "user": f"{prefix}SAPI_WORKSPACE_{number}",
    }
    assert body["url"] == f"snowflake/{body['id']}"
    assert create(client) == body
    read = client.get(f"{PATH}/{body['id']}").body
    assert (read["workspaceId"], read["credentials"]) == (number, body["credentials"])
    assert read["inUse"] is False


def test_every_type_is_a_workspace_of_its_own(client: Client) -> None:
    bodies = [create(client, type_) for type_ in TYPES]
    assert len({body["credentials"]["user"] for body in bodies}) == len(TYPES)
    for body, type_ in zip(bodies, TYPES, strict=True):
        assert (body["expiration"] is None) == (type_ in ("writer", "luckyguess"))


def test_a_workspace_is_used_seen_in_use_killed_and_dropped(
    account: Account, client: Client
) -> None:
    body = create(client)
    address = f"{PATH}/{body['id']}"
    with closing(account.log_in(body["credentials"])) as connection:
        run(connection, "CREATE TABLE t (a INT)")
        assert client.get(address).body["inUse"] is True
        assert client.post(f"{address}/kill").body == {"status": "ok"}
        with pytest.raises(Error):
            run(connection, "SELECT 1")
    wait_until(lambda: not client.get(address).body["inUse"], what="not in use")
    with closing(account.log_in(body["credentials"])) as connection:
        assert run(connection, "SELECT COUNT(*) FROM t") == [(0,)]
        assert client.delete(address).body == {"status": "ok"}
        with pytest.raises(Error):
            run(connection, "SELECT 1")
    with pytest.raises(Error):
        account.log_in(body["credentials"])
    assert client.get(address).status == 404
    assert client.delete(address).status == 404


@pytest.mark.parametrize("gone", ["schema", "user", "role"])
def test_a_vanished_workspace_is_404_and_the_next_has_a_new_number(
    account: Account, client: Client, gone: str
) -> None:
    body = create(client)
    user = body["credentials"]["user"]
    schema = f"SAPI_70.{body['credentials']['schema']}"
    account.admin(f"DROP {gone} {schema if gone == 'schema' else user}")
    assert client.get(f"{PATH}/{body['id']}").status == 404
    fresh = create(client)
    assert fresh["id"] != body["id"]
    assert fresh["workspaceId"] != body["workspaceId"]

    wait_until(
        lambda: account.remains(body["credentials"]) == [],
        what="the old workspace's remains gone",
    )
    with closing(account.log_in(fresh["credentials"])) as connection:
        run(connection, "CREATE TABLE t (a INT)")


def test_an_extend_moves_the_end_that_the_server_itself_keeps(
    account: Account, client: Client
) -> None:
    body = create(client)
    extended = client.post(f"{PATH}/{body['id']}/extend").body
    assert extended["touch"] > body["touch"]
    users = account.admin(f"SHOW USERS LIKE '{body['credentials']['user']}'")
    assert len(users) == 1
    assert client.get(f"{PATH}/{body['id']}").body["touch"] == extended["touch"]


def test_a_statement_limit_of_a_type_is_the_servers(account: Account, client: Client) -> None:
    body = create(client, "writer")
    with closing(account.log_in(body["credentials"])) as connection:
        with pytest.raises(Error) as caught:
            run(connection, f"SELECT SYSTEM$WAIT({ENDLESS})")
        assert caught.value.errno == TIMED_OUT


def test_no_password_is_in_any_log(service: Service, client: Client, account: Account) -> None:
    body = create(client)
    logs = service.logs()
    assert body["credentials"]["password"] not in logs
    assert account.password not in logs
