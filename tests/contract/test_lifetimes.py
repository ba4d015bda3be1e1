"""Lifetimes, hard maximum and expiry (contract sections 11, 6.2.3 and 6.3.3)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from devstack.mariadb import MariaDB
from provisioning.state.models import Job
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import finished_job, require_error, require_not_found
from tests.contract.server_look import (
    database_exists,
    require_dead,
    require_login,
    user_exists,
)
from tests.support.client import Client
from tests.support.deadlines import wait_until
from tests.support.servers import connect_as
from tests.support.service import Service

EXTRA = 2
#: Seconds that a sandbox lives where nobody sweeps.
BRIEF = 4


def iso(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")


def path_of(body: dict[str, Any]) -> str:
    return f"/provisioning/mysql/{body['id']}"


@pytest.fixture(scope="module")
def bounded(make_service: ServiceMaker) -> Iterator[Service]:
    """A sandbox can never be extended, transformations by two seconds."""
    environment = {
        "MYSQL_SANDBOX_LIFETIME": "1h",
        "MYSQL_SANDBOX_MAX_LIFETIME": "1h",
        "MYSQL_TRANSFORMATIONS_LIFETIME": "3600s",
        "MYSQL_TRANSFORMATIONS_MAX_LIFETIME": f"{3600 + EXTRA}s",
    }
    with make_service(environment) as service:
        yield service


def require_warning(client: Client, path: str) -> None:
    require_error(
        client.post(f"{path}/extend"),
        400,
        "cannot_extend",
        "The sandbox cannot be extended.",
        word="warning",
    )


def test_a_lifetime_that_is_the_maximum_cannot_be_extended(bounded: Service) -> None:
    client = bounded.client()
    created = client.create("sandbox")
    assert created["canExtend"] is False
    assert created["expiration"] == iso(created["touch"] + 3600)
    require_warning(client, path_of(created))
    read = client.get(path_of(created)).body
    assert (read["touch"], read["expiration"]) == (created["touch"], created["expiration"])
    assert read["canExtend"] is False
    assert client.create("sandbox")["touch"] == created["touch"]


def test_extends_reach_the_maximum_and_not_beyond(bounded: Service) -> None:
    client = bounded.client()
    created = client.create("transformations")
    path = path_of(created)
    assert created["canExtend"] is True
    latest = iso(created["touch"] + 3600 + EXTRA)
    seen = [created]
    while client.get(path).body["canExtend"]:
        extended = client.post(f"{path}/extend").body
        assert extended["touch"] > seen[-1]["touch"]
        # A 200 means a later end: the strings of one form compare like the times.
        assert seen[-1]["expiration"] < extended["expiration"] <= latest
        seen.append(extended)
    assert 2 <= len(seen) <= 1 + EXTRA
    assert seen[-1]["expiration"] == latest
    require_warning(client, path)
    read = client.get(path).body
    assert (read["touch"], read["expiration"]) == (seen[-1]["touch"], latest)


def test_a_refused_extend_of_a_foreign_id_is_not_found(bounded: Service) -> None:
    created = bounded.client().create("sandbox")
    require_not_found(bounded.client().post(f"{path_of(created)}/extend"))


# Expiry ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brief(make_service: ServiceMaker) -> Iterator[Service]:
    """Sandboxes live for seconds, transformations for ever; nobody sweeps at first."""
    environment = {"MYSQL_SANDBOX_LIFETIME": f"{BRIEF}s", "MYSQL_TRANSFORMATIONS_LIFETIME": "none"}
    with make_service(environment) as service:
        yield service


def test_without_a_lifetime_expiration_is_null_and_extend_still_touches(brief: Service) -> None:
    client = brief.client()
    created = client.create("transformations")
    assert created["expiration"] is None
    assert created["canExtend"] is True
    extended = client.post(f"{path_of(created)}/extend").body
    assert extended["expiration"] is None
    assert extended["touch"] > created["touch"]
    read = client.get(path_of(created)).body
    assert (read["expiration"], read["touch"]) == (None, extended["touch"])


def test_what_has_expired_is_gone_before_any_sweep(brief: Service, mariadb: MariaDB) -> None:
    client = brief.client()
    created = client.create("sandbox")
    assert created["expiration"] == iso(created["touch"] + BRIEF)
    wait_until_gone(client, created)
    assert datetime.now(UTC) >= datetime.fromisoformat(created["expiration"])
    require_not_found(client.get("/provisioning/mysql?type=sandbox"))
    require_not_found(client.post(f"{path_of(created)}/extend"))
    require_not_found(client.post(f"{path_of(created)}/kill"))
    require_not_found(client.delete(path_of(created)))
    assert database_exists(mariadb, created["credentials"]["db"])


def wait_until_gone(client: Client, body: dict[str, Any]) -> None:
    path = path_of(body)
    wait_until(lambda: client.get(path).status == 404, what=f"{path} expired")


def test_extend_keeps_a_credential_alive(brief: Service) -> None:
    client = brief.client()
    created = client.create("sandbox")
    # Each is a second later than the one before, so there is time to look.
    for _ in range(30):
        extended = client.post(f"{path_of(created)}/extend").body
    end = datetime.fromtimestamp(created["touch"], UTC) + timedelta(seconds=BRIEF + 1)
    wait_until(lambda: datetime.now(UTC) >= end, what="the first end passed")
    read = client.get(path_of(created))
    assert (read.status, read.body["expiration"]) == (200, extended["expiration"])


def test_sweeps_drop_what_has_expired_under_its_owners_name(
    brief: Service, mariadb: MariaDB, project: str
) -> None:
    client = brief.client(brief.token(project=project, description="owner"))
    created, kept = client.create("sandbox"), client.create("transformations")
    session = connect_as(created["credentials"])
    wait_until_gone(client, created)
    worker, beat = brief.start_worker(), brief.start_beat()
    try:
        # The create does not have to wait for the sweep's next turn.
        second = client.create("sandbox")
        assert second["id"] != created["id"]
        require_login(second["credentials"])
        wait_until(
            lambda: not database_exists(mariadb, created["credentials"]["db"]),
            what="the expired database dropped",
        )
        require_dead(session)
        wait_until(
            lambda: not user_exists(mariadb, second["credentials"]["user"]),
            what="the second one dropped too, and the login with it",
        )
        require_login(kept["credentials"])
        records = [finished_job(client, job) for job in jobs_of(brief, project)]
    finally:
        beat.stop()
        worker.stop()
    assert len(records) == 2
    for record, body in zip(records, (created, second), strict=True):
        assert record["command"] == "delete" and record["status"] == "success"
        assert record["params"] == {"backend": "mysql", "id": body["id"]}
        assert record["project"]["id"] == int(project)
        assert record["token"]["description"] == "owner"


def jobs_of(service: Service, project: str) -> list[int]:
    with service.installation.database.read() as session:
        query = select(Job.id).where(Job.project_id == project).order_by(Job.id)
        return list(session.scalars(query))
