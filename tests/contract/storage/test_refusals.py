"""Refusals and outages of the Storage API (contract 5.2)."""

import time
from datetime import datetime, timedelta, timezone

import pytest

from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import (
    read,
    require_error,
    require_invalid,
    require_no_verification,
    require_not_found,
)
from tests.contract.storage.conftest import TIMEOUT
from tests.support.client import Client
from tests.support.deadlines import ENDLESS
from tests.support.service import Service
from tests.support.storage_simulator import (
    Reply,
    StorageSimulator,
    simulated_storage,
    token_details,
)

#: Seconds that the service waits for the Storage API without the setting.
DEFAULT = 10


def test_401_of_the_storage_api_is_401(client: Client) -> None:
    require_invalid(read(client))


@pytest.mark.parametrize("status", [400, 403, 404, 410, 422, 429, 499])
@pytest.mark.parametrize("key", ["error", "message"])
def test_another_4xx_keeps_its_status_and_message(
    storage: StorageSimulator, client: Client, token: str, status: int, key: str
) -> None:
    storage.answer(token, Reply(status, {key: f"You shall not pass {status}"}))
    require_error(read(client), status, "token_refused", f"You shall not pass {status}")


@pytest.mark.parametrize("raw", [b"", b"<html>forbidden</html>", b"[]", b'{"error":""}'])
def test_a_4xx_without_a_message_still_has_one_here(
    storage: StorageSimulator, client: Client, token: str, raw: bytes
) -> None:
    storage.answer(token, Reply(403, raw=raw))
    require_error(read(client), 403, "token_refused", None)


def test_a_disabled_token_is_refused(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    storage.accept(token, project, project, isDisabled=True)
    require_invalid(read(client))


BERLIN = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    "expires",
    [
        "2019-01-10T10:00:00+0100",
        "2019-01-10T10:00:00+01:00",
        "2019-01-10T10:00:00Z",
        "2019-01-10T10:00:00",
    ],
)
def test_an_expired_token_is_refused(
    storage: StorageSimulator, client: Client, token: str, project: str, expires: str
) -> None:
    storage.accept(token, project, project, expires=expires)
    require_invalid(read(client))


def test_a_token_that_expired_lately_in_its_own_time_zone_is_refused(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    expires = (datetime.now(BERLIN) - timedelta(minutes=5)).isoformat(timespec="seconds")
    test_an_expired_token_is_refused(storage, client, token, project, expires)


@pytest.mark.parametrize("expires", ["2119-01-10T10:00:00+0100", None, ""])
def test_a_token_that_expires_later_or_never_is_good(
    storage: StorageSimulator, client: Client, token: str, project: str, expires: str | None
) -> None:
    storage.accept(token, project, project, expires=expires)
    require_not_found(read(client))


def test_a_project_under_maintenance(storage: StorageSimulator, client: Client, token: str) -> None:
    body = {"status": "maintenance", "reason": "Moving to another region", "estimatedEndTime": "x"}
    storage.answer(token, Reply(503, body))
    message = "Project is disabled - Moving to another region"
    require_error(read(client), 503, "maintenance", message, kind="Project is disabled")


def test_a_disabled_project(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    storage.accept(token, project, project, owner={"isDisabled": True})
    error = require_error(read(client), 503, "maintenance", None, kind="Project is disabled")
    assert error["message"].startswith("Project is disabled - ")
    assert len(error["message"]) > len("Project is disabled - ")


# Outages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500, {"error": "secret stack"}),
        Reply(502, raw=b"<html>Bad Gateway</html>"),
        Reply(503, {"error": "overloaded"}),
        Reply(503, raw=b""),
        Reply(504, raw=b"[]"),
        Reply(200, raw=b""),
        Reply(200, raw=b"<html>Welcome</html>"),
        Reply(200, raw=b"[]"),
        Reply(200, raw=b"null"),
        Reply(200, raw=b'"ok"'),
        Reply(200, raw=b'{"id":"1","owner":{"id"'),
        Reply(200, raw=b"\xff\xfe\x00"),
        Reply(200, raw=b"[" * 100_000),
        Reply(302, {}, headers={"Location": "/elsewhere"}),
        Reply(hang_up=True),
    ],
    ids=lambda reply: f"{reply.status}-{reply.content()[:12]!r}-{reply.hang_up}",
)
def test_an_outage_of_the_storage_api_is_503(
    storage: StorageSimulator, client: Client, token: str, reply: Reply
) -> None:
    storage.answer(token, reply)
    answer = read(client)
    require_no_verification(answer)
    assert "secret" not in answer.text


def test_a_storage_api_that_is_slow_costs_the_timeout_and_no_more(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    details = token_details(project, project)
    storage.answer(token, Reply(body=details, delay=ENDLESS))
    start = time.monotonic()
    require_no_verification(read(client))
    assert TIMEOUT * 0.9 <= time.monotonic() - start < DEFAULT


def test_a_storage_api_that_drips_costs_the_timeout_and_no_more(
    storage: StorageSimulator, client: Client, token: str, project: str
) -> None:
    details = token_details(project, project)
    storage.answer(token, Reply(body=details, drip=0.02))
    start = time.monotonic()
    require_no_verification(read(client))
    assert time.monotonic() - start < DEFAULT


def test_a_storage_api_that_is_away_is_503(make_service: ServiceMaker) -> None:
    with simulated_storage() as gone:
        url = gone.url
    with make_service({"STORAGE_API_URL": url}) as service:
        require_no_verification(read(service.client("1-2-3")))
        assert service.anonymous().get("/health/ready").status == 200


def test_tokens_of_the_storage_api_are_not_logged(
    storage: StorageSimulator, verified: Service, client: Client, token: str, project: str
) -> None:
    for reply in (Reply(500), Reply(403, {"error": "no"}), Reply(401), Reply(hang_up=True)):
        storage.answer(token, reply)
        read(client)
    storage.accept(token, project, project)
    client.create()
    assert verified.logs()
    assert token not in verified.logs()
