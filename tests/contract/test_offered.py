"""Which backends an installation offers (contract 5.6)."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from provisioning.cli.main import cli
from provisioning.configuration import config
from provisioning.errors import ConfigurationError
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import require_error, require_not_found, require_unavailable
from tests.contract.server_look import require_no_login
from tests.support.client import Client
from tests.support.service import Service

NAMES = ("mysql", "snowflake", "redshift-workspace", "postgresql", "docker")
#: Every verb, and what is before and behind the backend's name in its path.
VERBS = (
    ("GET", "", ""),
    ("POST", "", ""),
    ("GET", "", "/1"),
    ("DELETE", "", "/1"),
    ("POST", "", "/1/extend"),
    ("POST", "", "/1/kill"),
    ("POST", "", "/1/password"),
    ("POST", "async/", ""),
    ("POST", "async/", "/transformation"),
    ("DELETE", "async/", "/1"),
)


@pytest.fixture(scope="module")
def plain(make_service: ServiceMaker) -> Iterator[Service]:
    """A service that says nothing about what it offers; only MySQL has a server."""
    with make_service({"OFFERED_BACKENDS": ""}, workers=1) as service:
        yield service


def names_offered(client: Client) -> list[str]:
    answer = client.get("/provisioning")
    assert answer.status == 200, answer
    return [backend["name"] for backend in answer.body["backends"]]


@pytest.mark.parametrize(("method", "before", "behind"), VERBS)
@pytest.mark.parametrize("name", NAMES[1:])
def test_a_backend_that_is_not_offered_is_unknown_to_every_verb(
    plain: Service, name: str, method: str, before: str, behind: str
) -> None:
    answer = plain.client()(method, f"/provisioning/{before}{name}{behind}")
    require_error(answer, 400, "backend_unknown", f"Backend '{name}' not found.")


def test_what_has_a_server_is_offered_with_its_types(plain: Service) -> None:
    assert plain.client().get("/provisioning").body == {
        "status": "ok",
        "backends": [
            {
                "name": "mysql",
                "types": ["transformations", "sandbox"],
                "defaultType": "transformations",
                "async": False,
            }
        ],
    }
    require_error(plain.anonymous().get("/provisioning"), 400, "token_missing", None)


def test_mysql_is_offered_without_a_server_as_one_can_be_registered(
    make_service: ServiceMaker,
) -> None:
    with make_service({"OFFERED_BACKENDS": "", "MYSQL_URL": ""}) as service:
        client = service.client()
        assert names_offered(client) == ["mysql"]
        require_not_found(client.get("/provisioning/mysql"))
        require_unavailable(client.post("/provisioning/mysql"))


def test_what_is_offered_without_a_server_is_known(service: Service) -> None:
    client = service.client()
    assert names_offered(client) == list(NAMES)
    docker = client.get("/provisioning").body["backends"][-1]
    assert docker["async"] is True and docker["defaultType"] is None
    require_not_found(client.get("/provisioning/snowflake"))
    require_unavailable(client.post("/provisioning/snowflake"), "snowflake")


def test_operators_drop_what_exists_on_a_backend_that_is_offered_no_more(
    plain: Service, make_service: ServiceMaker
) -> None:
    client = plain.client()
    created = client.create()
    environment = {**plain.environment, "OFFERED_BACKENDS": "snowflake"}
    with make_service(environment, state_url=plain.environment["STATE_URL"]) as later:
        other = later.client(client.token)
        assert names_offered(other) == ["snowflake"]
        path = f"/provisioning/mysql/{created['id']}"
        message = "Backend 'mysql' not found."
        require_error(other.get(path), 400, "backend_unknown", message)
        require_error(other.delete(path), 400, "backend_unknown", message)
        done = CliRunner().invoke(
            cli, ["credentials", "drop", created["id"], "--wait", "60"], env=later.environment
        )
    assert done.exit_code == 0, done.output
    require_no_login(created["credentials"])


def test_a_backend_that_does_not_exist_cannot_be_offered(service: Service) -> None:
    environment = {**service.environment, "OFFERED_BACKENDS": "mysql, oracle"}
    with pytest.raises(ConfigurationError, match="OFFERED_BACKENDS: 'oracle' is none of mysql"):
        config.load(environment)
