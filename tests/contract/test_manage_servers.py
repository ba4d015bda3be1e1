"""Contract 11.6 and 11.7: MySQL servers that are registered while the service runs."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from click.testing import CliRunner
from sqlalchemy import select

from devstack.mariadb import MariaDB
from devstack.ports import HeldPort
from provisioning.cli.main import cli
from provisioning.state.models import Credentials
from tests.contract.conftest import ServiceMaker
from tests.support.client import Answer, Client
from tests.support.deadlines import wait_until
from tests.support.servers import connect_as
from tests.support.service import Service

PATH = "/provisioning/manage/server/mysql"
PASSWORD = "Registered-password-1"


@pytest.fixture(scope="module")
def service(make_service: ServiceMaker, mariadb: MariaDB) -> Iterator[Service]:
    """A service whose only configured server takes no sandboxes."""
    environment = {"MYSQL_URL": f"{mariadb.url}?types=transformations"}
    with make_service(environment, workers=1) as service:
        yield service


@pytest.fixture(scope="module")
def operator(service: Service) -> dict[str, str]:
    _, token = service.installation.manage_tokens.create("test")
    return {"X-KBC-ManageApiToken": token.reveal()}


@pytest.fixture
def server(mariadb: MariaDB) -> dict[str, Any]:
    """A registration: the MariaDB, under another name than in the configuration."""
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE OR REPLACE USER registered@'%' IDENTIFIED BY '{PASSWORD}'")
        cursor.execute("GRANT ALL PRIVILEGES ON *.* TO registered@'%' WITH GRANT OPTION")
    return {
        "host": "LOCALHOST",
        "port": mariadb.port,
        "user": "registered",
        "password": PASSWORD,
    }


@pytest.fixture
def manage(service: Service, operator: dict[str, str]) -> Client:
    """A client with a management token and none of a project."""
    anonymous = service.anonymous()

    class Operator(Client):
        def __call__(self, *arguments: Any, **options: Any) -> Answer:
            headers = {**operator, **(options.pop("headers", None) or {})}
            return super().__call__(*arguments, headers=headers, **options)

    return Operator(anonymous.port)


def test_a_registered_server_gets_credentials_once_it_is_activated(
    service: Service, manage: Client, server: dict[str, Any]
) -> None:
    client = service.client()
    assert client.post("/provisioning/mysql", {"type": "sandbox"}).status == 503
    added = manage.post(PATH, {**server, "type": "sandbox"})
    assert added.status == 200
    number = added.body["id"]
    assert added.body == {
        "id": number,
        "isAlive": True,
        "host": "localhost",
        "type": "sandbox",
        "mode": "inactive",
    }
    assert client.post("/provisioning/mysql", {"type": "sandbox"}).status == 503
    activated = manage.post(f"{PATH}/{number}/activate")
    assert activated.status == 200
    assert activated.body == {**added.body, "mode": "active"}
    made = wait_until(
        lambda: client.post("/provisioning/mysql", {"type": "sandbox"}).body.get("credentials"),
        what="credentials on the new server",
    )
    assert made["hostname"] == "localhost"
    connect_as(made).close()
    with service.installation.database.read() as session:
        query = select(Credentials.server).where(Credentials.id == int(made["id"]))
        assert session.scalars(query).one() == f"registered-{number}"
    listed = CliRunner().invoke(cli, ["servers", "list"], env=service.environment)
    assert listed.exit_code == 0
    (line,) = [line for line in listed.output.splitlines() if f"registered-{number}" in line]
    where = f"registered@localhost:{server['port']}"
    assert all(text in line for text in ("mysql", where, " 1 ", "sandbox", "yes")), listed.output
    # The worker learns of it too.
    assert client.delete(f"/provisioning/mysql/{made['id']}").body == {"status": "ok"}
    assert PASSWORD not in service.logs()
    # The same server again: only the values sent are new.
    again = manage.post(PATH, {**server, "type": "transformations"}).body
    assert again == {**activated.body, "type": "transformations"}


def test_a_form_is_taken_like_json(manage: Client, server: dict[str, Any]) -> None:
    form = {**server, "host": "127.1", "mode": "active", "type": "sandbox", "database": "mysql"}
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = manage("POST", PATH, urlencode(form), headers=headers)
    assert answer.status == 200, answer.text
    assert answer.body["isAlive"] is True
    assert answer.body["mode"] == "active"


def test_a_server_that_does_not_work_is_recorded_and_not_activated(
    manage: Client, server: dict[str, Any]
) -> None:
    port = HeldPort()
    wrong: tuple[dict[str, Any], ...] = (
        {"port": port.number},
        {"password": "wrong"},
        {"database": "missing"},
    )
    for change in wrong:
        answer = manage.post(PATH, {**server, "host": "127.0.1", **change})
        assert answer.status == 200
        assert answer.body["isAlive"] is False
        refused = manage.post(f"{PATH}/{answer.body['id']}/activate")
        assert refused.status == 400
        assert refused.body["reason"] == "server_not_alive"
    port.release()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"host": None}, "parameter_missing"),
        ({"user": None}, "parameter_missing"),
        ({"password": None}, "parameter_missing"),
        ({"host": "no host"}, "parameter_invalid"),
        # It is in the configuration.
        ({"host": "127.0.0.1"}, "parameter_invalid"),
        ({"port": 65536}, "parameter_invalid"),
        ({"port": True}, "parameter_invalid"),
        ({"mode": "on"}, "parameter_invalid"),
        ({"type": "writer"}, "type_invalid"),
        ({"other": 1}, "parameter_unknown"),
    ],
)
def test_wrong_parameters_are_400(
    manage: Client, server: dict[str, Any], change: dict[str, Any], reason: str
) -> None:
    answer = manage.post(PATH, {**server, **change})
    assert (answer.status, answer.body["reason"]) == (400, reason)


def test_an_unknown_server_is_404(manage: Client) -> None:
    for number in ("999", "0", "x"):
        answer = manage.post(f"{PATH}/{number}/activate")
        assert (answer.status, answer.body["reason"]) == (404, "server_not_found")
        assert answer.body["message"] == "Server not found."


def test_only_operators_register(service: Service, server: dict[str, Any]) -> None:
    for path in (PATH, f"{PATH}/1/activate"):
        answer = service.client().post(path, server)
        assert (answer.status, answer.body["reason"]) == (400, "manage_token_missing")
        wrong = service.anonymous().post(path, server, headers={"X-KBC-ManageApiToken": "x"})
        assert (wrong.status, wrong.body["reason"]) == (401, "manage_token_invalid")
