"""POST /provisioning/{backend}/{id}/extend (contract 6.3). Refusals are in test_lifetimes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.expectations import require_headers
from tests.support.client import Client
from tests.support.service import Service

LIFETIMES = {"sandbox": timedelta(days=14), "transformations": timedelta(days=7)}


def expiration(touch: int, type_: str) -> str:
    end = datetime.fromtimestamp(touch, UTC) + LIFETIMES[type_]
    return end.isoformat(timespec="seconds")


def extend(client: Client, id_: str) -> dict[str, Any]:
    answer = client.post(f"/provisioning/mysql/{id_}/extend")
    assert answer.status == 200, answer
    require_headers(answer)
    body: dict[str, Any] = answer.body
    assert set(body) == {"touch", "id", "expiration"}
    assert body["id"] == id_
    assert type(body["touch"]) is int
    return body


@pytest.mark.parametrize("type_", LIFETIMES)
def test_extend_starts_the_full_lifetime_anew(client: Client, type_: str) -> None:
    created = client.create(type_)
    extended = extend(client, created["id"])
    assert extended["touch"] > created["touch"]
    assert extended["expiration"] == expiration(extended["touch"], type_)
    read = client.get(f"/provisioning/mysql/{created['id']}").body
    assert read["touch"] == extended["touch"]
    assert read["expiration"] == extended["expiration"]
    assert read["canExtend"] is True
    assert read["credentials"] == created["credentials"]


def test_extend_raises_touch_each_time_also_several_times_a_second(client: Client) -> None:
    created = client.create()
    touches = [created["touch"]] + [extend(client, created["id"])["touch"] for _ in range(6)]
    assert all(later > earlier for earlier, later in zip(touches, touches[1:], strict=False))
    # More than a second apart from the clock only as far as the calls made it.
    assert touches[-1] - touches[0] <= 6 + 5


def test_extends_at_the_same_moment_all_differ(service: Service, client: Client) -> None:
    created = client.create()
    clients = [service.client(client.token, front=n % 2) for n in range(10)]
    with ThreadPoolExecutor(10) as pool:
        bodies = list(pool.map(lambda caller: extend(caller, created["id"]), clients))
    touches = {body["touch"] for body in bodies}
    assert len(touches) == 10
    assert all(body["expiration"] == expiration(body["touch"], "sandbox") for body in bodies)
    last = client.get(f"/provisioning/mysql/{created['id']}").body
    assert last["touch"] == max(touches)
