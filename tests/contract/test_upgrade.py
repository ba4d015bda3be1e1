"""A state that version 0.1.0 has written is brought up to date and served."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from devstack.mariadb import MariaDB
from tests.contract.conftest import ServiceMaker
from tests.contract.expectations import finished_job
from tests.contract.server_look import database_exists, require_login, run_as_root
from tests.support.client import Client

#: A dump of its database: two credentials of one token, one of them dropped, and two jobs.
STATE = Path(__file__).parent / "state-0.1.0.sql"
KEY = "cHJvdmlzaW9uaW5nLXVwZ3JhZGUtdGVzdC1rZXktMDE="
TOKEN = "572-1-1cd9973eeec774722f5b828bb51800d723b5708d"
DATABASE, USER, PASSWORD = "apbg_sand_572_1", "apbg_user_7", "2M6fFt2T6lktWhSf3UErrZjG"
PATH = "/provisioning/mysql/1"


@pytest.fixture(scope="module")
def owner(
    make_service: ServiceMaker, mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """The token's owner, with the new version running over the old state and its objects."""
    state = tmp_path_factory.mktemp("old") / "state.db"
    with closing(sqlite3.connect(state)) as database:
        database.executescript(STATE.read_text())
    run_as_root(mariadb, f"CREATE DATABASE `{DATABASE}`")
    run_as_root(mariadb, f"CREATE USER `{USER}`@`%%` IDENTIFIED BY %s", PASSWORD)
    pattern = DATABASE.replace("_", "\\_")
    run_as_root(mariadb, f"GRANT ALL PRIVILEGES ON `{pattern}`.* TO `{USER}`@`%`")
    settings = {"ENCRYPTION_KEYS": KEY}
    with make_service(settings, state_url=f"sqlite:///{state}", workers=1) as service:
        yield service.client(TOKEN)


def test_a_credential_is_its_owners_until_it_is_dropped(owner: Client, mariadb: MariaDB) -> None:
    body = owner.get(PATH).body
    assert body["credentials"]["password"] == PASSWORD
    require_login(body["credentials"])
    assert owner.create()["id"] == "1"
    assert owner.post(f"{PATH}/extend").status == 200
    job = owner.delete(PATH, headers={"Prefer": "respond-async"}).body["id"]
    assert finished_job(owner, job)["status"] == "success"
    assert not database_exists(mariadb, DATABASE)
    assert owner.create()["id"] != "1"


def test_jobs_and_their_events_are_shown(owner: Client) -> None:
    jobs = owner.get("/queue/jobs").body
    assert [(job["id"], job["command"], job["status"]) for job in jobs[-2:]] == [
        (3, "delete", "success"),
        (1, "kill", "success"),
    ]
    events = owner.get("/queue/jobs/3/events").body
    assert [event["event"] for event in events] == [
        "job.accepted",
        "credentials.drop_requested",
        "job.started",
        "credentials.dropped",
        "job.succeeded",
    ]
