"""The oracle sees what it is there to see: one planted object of each kind, one count each."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import update

from devstack.mariadb import MariaDB
from devstack.valkey import Valkey
from provisioning.catalog import BACKENDS
from provisioning.creation import get_or_create
from provisioning.database import now_ms
from provisioning.models import Credentials, Job
from provisioning.service import CredentialsView, request_kill
from provisioning.states import CredentialsState
from provisioning.tokens import Caller as Principal
from provisioning.vault import Secret
from tests.faults.callers import Ledger
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultyService
from tests.support.servers import connect_as

CLEAN = {"orphans": 0, "ghosts": 0, "zombies": 0, "open": 0, "double": 0, "lost": 0}


class Bench:
    """A state and a server without any process of the service: nothing repairs what is planted."""

    def __init__(self, service: FaultyService, mariadb: MariaDB) -> None:
        self.installation = service.installation
        self.mariadb = mariadb
        self.ledger = Ledger()
        self.oracle = Oracle(self.installation, {"default": mariadb}, self.ledger)
        self._service = service

    def caller(self) -> Principal:
        token = Secret(self._service.token())
        return Principal(self.installation.tokens.verify(token), token)

    def create(self, caller: Principal, type_: str = "transformations") -> CredentialsView:
        return get_or_create(self.installation, caller, BACKENDS["mysql"], type_)

    def change(self, credentials_id: int, **values: object) -> None:
        statement = update(Credentials).where(Credentials.id == credentials_id).values(**values)
        with self.installation.database.write() as session:
            session.execute(statement)

    def run(self, statement: str) -> None:
        with contextlib.closing(self.mariadb.connect()) as connection:
            connection.cursor().execute(statement)

    def promise(self, caller: Principal, view: CredentialsView) -> None:
        body = {"id": str(view.id), "credentials": {"id": str(view.id), **view.details}}
        self.ledger.created(caller.token.reveal(), body)

    def counts(self, **expected: int) -> None:
        findings = self.oracle.look()
        assert findings.counts() == {**CLEAN, **expected}, findings.table()


@pytest.fixture
def bench(service_directory: Path, mariadb: MariaDB, valkey: Valkey) -> Iterator[Bench]:
    service = FaultyService(service_directory, mariadb=mariadb, valkey=valkey)
    yield Bench(service, mariadb)
    service.stop()


def test_a_healthy_installation_counts_nothing(bench: Bench) -> None:
    caller = bench.caller()
    view = bench.create(caller)
    bench.create(caller, "sandbox")
    bench.promise(caller, view)
    with connect_as(view.details):
        bench.counts()
    bench.oracle.assert_clean(timeout=1)


def test_a_database_without_a_row_is_an_orphan(bench: Bench) -> None:
    bench.run(f"CREATE DATABASE {bench.installation.prefix}left")
    bench.counts(orphans=1)


def test_a_login_without_a_row_is_an_orphan(bench: Bench) -> None:
    bench.run(f"CREATE USER {bench.installation.prefix}left@'%'")
    bench.counts(orphans=1)


def test_a_grant_without_a_row_is_an_orphan(bench: Bench) -> None:
    view = bench.create(bench.caller())
    left = f"`{bench.installation.prefix}left`"
    bench.run(f"GRANT SELECT ON {left}.* TO `{view.details['user']}`@'%'")
    bench.counts(orphans=1)


def test_an_active_row_without_its_database_is_a_ghost(bench: Bench) -> None:
    view = bench.create(bench.caller())
    bench.run(f"DROP DATABASE `{view.details['db']}`")
    bench.counts(ghosts=1)


def test_an_active_row_without_its_login_is_a_ghost(bench: Bench) -> None:
    view = bench.create(bench.caller())
    bench.run(f"DROP USER `{view.details['user']}`@'%'")
    bench.counts(ghosts=1)


def test_an_active_row_whose_password_does_not_work_is_a_ghost(bench: Bench) -> None:
    view = bench.create(bench.caller())
    bench.run(f"ALTER USER `{view.details['user']}`@'%' IDENTIFIED BY 'another'")
    bench.counts(ghosts=1)


@pytest.mark.parametrize("state", [CredentialsState.CREATING, CredentialsState.DROPPING])
def test_an_unfinished_row_is_a_zombie(bench: Bench, state: CredentialsState) -> None:
    view = bench.create(bench.caller())
    bench.change(view.id, state=state, claim_until=now_ms() + 3_600_000)
    assert not bench.oracle.settle(timeout=0.1)
    bench.counts(zombies=1)


def test_an_unfinished_job_is_a_zombie(bench: Bench) -> None:
    caller = bench.caller()
    view = bench.create(caller)
    job = request_kill(bench.installation, caller, "mysql", str(view.id))
    bench.counts(zombies=1)
    with bench.installation.database.write() as session:
        session.execute(update(Job).where(Job.id == job.id).values(status="success"))
    bench.counts()


def test_a_session_of_a_dropped_login_is_open(bench: Bench) -> None:
    view = bench.create(bench.caller())
    with connect_as(view.details):
        bench.run(f"DROP DATABASE `{view.details['db']}`")
        bench.run(f"DROP USER `{view.details['user']}`@'%'")
        bench.change(view.id, state=CredentialsState.DROPPED, slot=None)
        bench.counts(open=1)


def test_two_live_rows_of_one_token_and_type_are_double(bench: Bench) -> None:
    first, second = bench.caller(), bench.caller()
    bench.create(first)
    bench.change(bench.create(second).id, token_id=first.principal.token_id)
    bench.counts(double=1)


def test_two_databases_of_one_token_and_type_are_double(bench: Bench) -> None:
    caller = bench.caller()
    left = bench.create(caller)
    bench.change(left.id, state=CredentialsState.DROPPED, slot=None)
    bench.create(caller)
    # The first one's database and login are orphans too: no live row names them.
    bench.counts(double=1, orphans=2)


def test_an_acknowledged_id_that_cannot_be_read_is_lost(bench: Bench) -> None:
    caller = bench.caller()
    view = bench.create(caller)
    bench.ledger.created(
        caller.token.reveal(), {"id": str(view.id + 1), "credentials": view.details}
    )
    bench.counts(lost=1)


def test_a_dropped_id_that_can_be_read_is_lost(bench: Bench) -> None:
    caller = bench.caller()
    view = bench.create(caller)
    bench.promise(caller, view)
    bench.ledger.deleted(str(view.id))
    bench.counts(lost=1)


def test_an_id_with_another_password_than_acknowledged_is_lost(bench: Bench) -> None:
    caller = bench.caller()
    view = bench.create(caller)
    details = {**view.details, "id": str(view.id), "password": "another"}
    bench.ledger.created(caller.token.reveal(), {"id": str(view.id), "credentials": details})
    bench.counts(lost=1)


def test_the_table_names_what_was_found(bench: Bench) -> None:
    name = f"{bench.installation.prefix}left"
    bench.run(f"CREATE DATABASE {name}")
    with pytest.raises(AssertionError, match=f"orphans .*1.* database {name}"):
        bench.oracle.assert_clean(timeout=0.1)


def test_a_login_that_works_is_told_from_one_that_does_not(bench: Bench) -> None:
    view = bench.create(bench.caller())
    with pytest.raises(pymysql.err.OperationalError):
        connect_as({**view.details, "password": "another"})
