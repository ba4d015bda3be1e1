"""``ttl``: how long a caller wants a credential to live, as far as that is allowed."""

from datetime import datetime
from typing import Any

import pytest

from tests.contract.expectations import require_error
from tests.support.client import Client
from tests.support.service import Service

PATH = "/provisioning/mysql"
LIMIT = "mysql.sandbox.expirationSeconds"


def lifetime(body: dict[str, Any]) -> float:
    """Return the seconds from the touch to the end."""
    touched: float = body["touch"]
    return datetime.fromisoformat(body["expiration"]).timestamp() - touched


def require_too_long(client: Client, path: str, body: dict[str, Any], largest: int) -> None:
    message = f"Parameter 'ttl' is invalid: at most {largest} seconds are allowed"
    require_error(client.post(path, body), 400, "parameter_invalid", message)


def test_a_create_lives_as_long_as_it_is_asked_to(service: Service, client: Client) -> None:
    wish = {"type": "sandbox", "ttl": 3600}
    require_too_long(client, PATH, {**wish, "ttl": 14 * 86_400 + 1}, 14 * 86_400)
    created = client.post(PATH, wish).body
    assert lifetime(created) == 3600
    assert created["canExtend"] is True
    again = client.post(PATH, {**wish, "ttl": 60}).body
    assert again["id"] == created["id"] and lifetime(again) == 3600, "it is left as it is"


def test_an_extend_lives_as_long_as_it_is_asked_to(client: Client) -> None:
    created = client.create()
    path = f"{PATH}/{created['id']}"
    shorter = client.post(f"{path}/extend", {"ttl": 7200}).body
    assert shorter["touch"] > created["touch"] and lifetime(shorter) == 7200
    assert client.get(path).body["expiration"] == shorter["expiration"]
    require_too_long(client, f"{path}/extend", {"ttl": 15 * 86_400}, 14 * 86_400)
    assert client.get(path).body["touch"] == shorter["touch"]
    assert lifetime(client.post(f"{path}/extend").body) == 14 * 86_400


def test_a_projects_limit_is_its_lifetime_and_its_largest_ttl(
    service: Service, project: str
) -> None:
    client = service.client(service.token(project=project, limits={LIMIT: 600}))
    require_too_long(client, PATH, {"type": "sandbox", "ttl": 601}, 600)
    created = client.create()
    assert lifetime(created) == 600
    require_too_long(client, f"{PATH}/{created['id']}/extend", {"ttl": 601}, 600)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "60", True, 2**31])
def test_a_ttl_is_a_positive_integer(client: Client, wrong: Any) -> None:
    message = "Parameter 'ttl' is invalid: an integer from 1 to 2147483647 is expected"
    wish = {"type": "sandbox", "ttl": wrong}
    require_error(client.post(PATH, wish), 400, "parameter_invalid", message)
