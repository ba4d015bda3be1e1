"""Revoked means out, whatever a tenant holds (contract 7.4)."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import psycopg2
import pytest
from click.testing import CliRunner

from devstack.postgres import Postgres
from provisioning.cli.main import cli
from tests.contract.conftest import ServiceMaker
from tests.contract.test_workspaces import DATABASE, as_admin, connect, create, run
from tests.support.client import Client
from tests.support.deadlines import wait_until
from tests.support.service import Service

PATH = "/provisioning/postgresql"
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def service(make_service: ServiceMaker, postgres: Postgres) -> Iterator[Service]:
    postgres.ensure_database(DATABASE)
    login = postgres.database_url(DATABASE).partition("://")[2]
    environment = {"POSTGRESQL_URL": f"postgresql://{login}", "JOB_RETRY_SECONDS": "3s"}
    with make_service(environment, workers=1, beats=1) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Client:
    return service.client()


def hold_own_row(credentials: dict[str, Any]) -> Any:
    session = connect(credentials)
    run(session, "BEGIN")
    run(session, "ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    return session


def require_out(credentials: dict[str, Any], *sessions: Any) -> None:
    with pytest.raises(psycopg2.OperationalError):
        connect(credentials)
    for session in sessions:
        with pytest.raises(psycopg2.Error):
            run(session, "SELECT 1")


def schema_exists(postgres: Postgres, credentials: dict[str, Any]) -> bool:
    name = credentials["schema"]
    query = f"SELECT 1 FROM pg_namespace WHERE nspname = '{name}'"
    return bool(as_admin(postgres, DATABASE, query))


def test_a_delete_ends_access_while_the_login_holds_its_own_row(
    client: Client, postgres: Postgres
) -> None:
    created = create(client, PATH)
    session = hold_own_row(created["credentials"])
    answer = client.delete(f"{PATH}/{created['id']}")
    assert (answer.status, answer.body) == (200, {"status": "ok"})
    require_out(created["credentials"], session)
    assert not schema_exists(postgres, created["credentials"])


def test_an_expiry_ends_access_while_the_login_holds_its_own_row(
    client: Client, postgres: Postgres
) -> None:
    answer = client.post(PATH, {"type": "sandbox", "ttl": 2})
    assert answer.status == 201, answer
    credentials = answer.body["credentials"]
    session = hold_own_row(credentials)
    wait_until(lambda: not schema_exists(postgres, credentials), what="the end of the workspace")
    require_out(credentials, session)


def test_what_cannot_be_removed_yet_keeps_neither_access_nor_the_slot(
    service: Service, client: Client, postgres: Postgres
) -> None:
    created = create(client, PATH)
    credentials = created["credentials"]
    with closing(connect(credentials)) as owner:
        run(owner, "CREATE TABLE held (a INT)")
    url = postgres.database_url(DATABASE).replace("+psycopg2", "")
    with closing(psycopg2.connect(url)) as stranger:
        run(stranger, f"SELECT * FROM {credentials['schema']}.held")
        job = client.delete(f"{PATH}/{created['id']}", headers=ASYNC).body
        again = create(client, PATH)
        assert again["id"] != created["id"]
        connect(again["credentials"]).close()
        require_out(credentials)
        wait_until(
            lambda: client.get(f"/queue/job/{job['id']}").body["isFinished"], what="the job's end"
        )
        ended = client.get(f"/queue/job/{job['id']}").body
        assert ended["status"] == "success"
        assert ended["result"] == {"status": "ok", "cleanup": "pending"}
        assert client.get(f"{PATH}/{created['id']}").status == 404
        assert schema_exists(postgres, credentials)
        [removal] = wait_until(
            lambda: [one for one in removals(service) if one["reason"]],
            what="a reason for operators",
        )
        assert removal["id"] == int(created["id"]) and removal["object"] == credentials["schema"]
        assert removal["accessEnded"] and "postgres" in removal["reason"]
    wait_until(lambda: not schema_exists(postgres, credentials), what="the rest removed")
    assert client.delete(f"{PATH}/{again['id']}").status == 200
    assert removals(service) == []


def removals(service: Service) -> list[dict[str, Any]]:
    """Return what the operators' command lists."""
    arguments = ["credentials", "removals", "--json"]
    result = CliRunner().invoke(cli, arguments, env=dict(service.environment))
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.output)
    return found


def test_one_login_leaves_room_for_the_others(client: Client, service: Service) -> None:
    greedy = create(client, PATH)["credentials"]
    with ExitStack() as stack:
        taken = 0
        with pytest.raises(psycopg2.OperationalError, match="too many connections for role"):
            while True:
                stack.enter_context(closing(connect(greedy)))
                taken += 1
        assert taken == 20
        # It is not taken for one that is out of step.
        assert create(client, PATH)["credentials"] == greedy
        other = create(service.client(), PATH)["credentials"]
        connect(other).close()
