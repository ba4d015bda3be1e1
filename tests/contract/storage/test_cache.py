"""What is remembered of verifications, and for how long (contract 5.3)."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import (
    read,
    require_invalid,
    require_no_verification,
    require_not_found,
)
from tests.contract.storage.conftest import TIMEOUT
from tests.support.client import Client
from tests.support.deadlines import wait_until
from tests.support.service import Service
from tests.support.storage_simulator import (
    Reply,
    StorageSimulator,
)

#: Seconds; and what they are without the setting.
CACHE, DEFAULT = 3, 60


@pytest.fixture(scope="module")
def caching(storage: StorageSimulator, make_service: ServiceMaker) -> Iterator[Service]:
    environment = {
        "STORAGE_API_URL": storage.url,
        "TOKEN_TIMEOUT_SECONDS": f"{TIMEOUT}s",
        "TOKEN_CACHE_SECONDS": f"{CACHE}s",
    }
    with make_service(environment) as service:
        yield service


@pytest.fixture
def cached(caching: Service, token: str) -> Client:
    return caching.client(token)


def test_a_success_is_remembered_for_the_cache_time_at_most(
    storage: StorageSimulator, cached: Client, token: str, project: str
) -> None:
    storage.accept(token, project, project)
    start = time.monotonic()
    for _ in range(5):
        require_not_found(read(cached))
    assert storage.verifications(token) == 1
    storage.answer(token, Reply(401))
    wait_until(lambda: read(cached).status == 401, what="a 401")
    assert CACHE <= time.monotonic() - start < DEFAULT / 2
    assert storage.verifications(token) == 2


def test_a_remembered_token_bridges_an_outage_until_it_runs_out(
    storage: StorageSimulator, cached: Client, token: str, project: str
) -> None:
    storage.accept(token, project, project)
    require_not_found(read(cached))
    storage.answer(token, Reply(500))
    require_not_found(read(cached))
    start = time.monotonic()
    wait_until(lambda: read(cached).status == 503, what="a 503")
    assert time.monotonic() - start < DEFAULT / 2
    require_no_verification(read(cached))
    storage.accept(token, project, project)
    require_not_found(read(cached))


def test_nothing_is_remembered_beyond_the_tokens_own_end(
    storage: StorageSimulator, make_service: ServiceMaker, token: str, project: str
) -> None:
    environment = {"STORAGE_API_URL": storage.url, "TOKEN_CACHE_SECONDS": "1h"}
    with make_service(environment) as service:
        client = service.client(token)
        end = datetime.now(UTC) + timedelta(seconds=3)
        storage.accept(token, project, project, expires=end.isoformat())
        require_not_found(read(client))
        wait_until(lambda: read(client).status == 401, what="a 401")
    assert storage.verifications(token) == 2


@pytest.mark.parametrize(
    "reply,status",
    [(Reply(401), 401), (Reply(403), 403), (Reply(500), 503), (Reply(hang_up=True), 503)],
)
def test_refusals_and_outages_are_not_remembered(
    storage: StorageSimulator, cached: Client, token: str, project: str, reply: Reply, status: int
) -> None:
    storage.answer(token, reply)
    assert read(cached).status == status
    assert read(cached).status == status
    assert storage.verifications(token) == 2
    storage.accept(token, project, project)
    require_not_found(read(cached))


@pytest.mark.parametrize("changes", [{"isDisabled": True}, {"owner": {"isDisabled": True}}])
def test_a_disabled_token_or_project_is_not_remembered_either(
    storage: StorageSimulator, cached: Client, token: str, project: str, changes: dict[str, Any]
) -> None:
    storage.accept(token, project, project, **changes)
    assert read(cached).status in (401, 503)
    storage.accept(token, project, project)
    require_not_found(read(cached))


def test_each_token_is_remembered_for_itself(
    storage: StorageSimulator, caching: Service, token: str, project: str
) -> None:
    storage.accept(token, project, project)
    require_not_found(read(caching.client(token)))
    require_invalid(read(caching.client(token + "x")))
    require_invalid(read(caching.client(token[:-1])))
