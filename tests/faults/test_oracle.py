"""The oracle sees what it is there to see: one planted object of each kind, one count each."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import update

from devstack.valkey import Valkey
from provisioning.access.tokens import Caller as Principal
from provisioning.configuration.catalog import BACKENDS
from provisioning.configuration.secrets import Secret
from provisioning.credentials.changes import request_kill
from provisioning.credentials.creation import get_or_create
from provisioning.credentials.reading import CredentialsView
from provisioning.state.database import now_ms
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials, Job
from tests.faults.callers import Ledger
from tests.faults.engines.base import Engine
from tests.faults.oracle import Oracle
from tests.faults.stack import FaultyService

CLEAN = {"orphans": 0, "ghosts": 0, "zombies": 0, "open": 0, "double": 0, "lost": 0}
#: How a login gets a right on what is not its own, and another password.
STRAY_GRANT = {
    "mysql": "GRANT SELECT ON `elsewhere`.* TO `{user}`@'%'",
    "postgresql": "GRANT USAGE ON SCHEMA public TO {user}",
    "redshift-workspace": "GRANT USAGE ON SCHEMA public TO {user}",
    "snowflake": "GRANT USAGE ON SCHEMA {db}.PUBLIC TO ROLE {user}",
}
OTHER_PASSWORD = {
    "mysql": "ALTER USER `{user}`@'%' IDENTIFIED BY 'Another-password-1'",
    "postgresql": "ALTER USER {user} PASSWORD 'Another-password-1'",
    "redshift-workspace": "ALTER USER {user} PASSWORD 'Another-password-1'",
    "snowflake": "ALTER USER {user} SET PASSWORD = 'Another-password-1'",
}
#: A number that no credential of these tests reaches.
FAR = 999_999


class Bench:
    """A state and an engine without any process of the service: nothing repairs what is planted."""

    def __init__(self, service: FaultyService, engine: Engine) -> None:
        self.installation = service.installation
        self.engine = engine
        self.type = engine.types[-1]
        self.ledger = Ledger()
        self.oracle = Oracle(service, self.ledger)
        self._service = service

    def caller(self) -> Principal:
        token = Secret(self._service.token())
        return Principal(self.installation.tokens.verify(token), token)

    def create(self, caller: Principal, type_: str | None = None) -> CredentialsView:
        rules = BACKENDS[self.engine.backend]
        return get_or_create(self.installation, caller, rules, type_ or self.type)

    def change(self, credentials_id: int, **values: object) -> None:
        statement = update(Credentials).where(Credentials.id == credentials_id).values(**values)
        with self.installation.database.write() as session:
            session.execute(statement)

    def run(self, statement: str, view: CredentialsView) -> None:
        self.engine.run(statement.format(**view.details))

    def promise(self, caller: Principal, view: CredentialsView, **changes: object) -> None:
        number = changes.pop("id", view.id)
        details = {**view.details, "id": str(number), **changes}
        body = {
            "id": str(number),
            "url": f"{self.engine.backend}/{number}",
            "credentials": details,
        }
        self.ledger.created(caller.token.reveal(), body)

    def counts(self, **expected: int) -> None:
        findings = self.oracle.look()
        assert findings.counts() == {**CLEAN, **expected}, findings.table()


@contextmanager
def bench_of(directory: Path, engine: Engine, valkey: Valkey) -> Iterator[Bench]:
    service = FaultyService(directory, [engine], valkey=valkey)
    yield Bench(service, engine)
    service.stop()


@pytest.fixture
def bench(service_directory: Path, mysql: Engine, valkey: Valkey) -> Iterator[Bench]:
    """For what is the same whatever the engine."""
    with bench_of(service_directory, mysql, valkey) as bench:
        yield bench


@pytest.fixture(params=["mysql", "postgresql", "snowflake"])
def each(
    request: pytest.FixtureRequest, service_directory: Path, valkey: Valkey
) -> Iterator[Bench]:
    """For what the oracle finds out from each kind of engine by queries of its own."""
    with bench_of(service_directory, request.getfixturevalue(request.param), valkey) as bench:
        yield bench


def test_a_healthy_installation_counts_nothing(each: Bench) -> None:
    caller = each.caller()
    view = each.create(caller)
    for type_ in each.engine.types:
        each.create(caller, type_)
    each.promise(caller, view)
    with closing(each.engine.connect(view.details)):
        each.counts()
    each.oracle.assert_clean(timeout=1)


def test_what_bears_our_prefix_without_a_row_is_an_orphan(each: Bench) -> None:
    strangers = each.engine.foreigners(each.installation.prefix, FAR, each.type)
    assert {stranger.part for stranger in strangers} == set(each.engine.parts)
    for number, stranger in enumerate(strangers, start=1):
        each.engine.run(*stranger.make)
        each.counts(orphans=number)


def test_a_grant_without_a_row_is_an_orphan(each: Bench) -> None:
    each.run(STRAY_GRANT[each.engine.backend], each.create(each.caller()))
    each.counts(orphans=1)


def test_an_active_row_without_one_of_its_parts_is_a_ghost(each: Bench) -> None:
    for number, part in enumerate(each.engine.parts, start=1):
        each.engine.remove(each.create(each.caller()).details, part)
        findings = each.oracle.look()
        assert len(findings.ghosts) == number, findings.table()


def test_an_active_row_whose_password_does_not_work_is_a_ghost(each: Bench) -> None:
    each.run(OTHER_PASSWORD[each.engine.backend], each.create(each.caller()))
    each.counts(ghosts=1)


def test_a_session_of_a_dropped_credential_is_open(each: Bench) -> None:
    view = each.create(each.caller())
    with closing(each.engine.connect(view.details)):
        each.change(view.id, state=CredentialsState.DROPPED, slot=None)
        each.counts(open=1, orphans=len(each.engine.parts))


@pytest.mark.parametrize("backend", ["mysql", "postgresql"])
def test_a_session_whose_login_is_gone_is_open(
    request: pytest.FixtureRequest, service_directory: Path, valkey: Valkey, backend: str
) -> None:
    """On Snowflake a session ends with its user."""
    with bench_of(service_directory, request.getfixturevalue(backend), valkey) as bench:
        view = bench.create(bench.caller())
        with closing(bench.engine.connect(view.details)):
            for part in bench.engine.parts:
                bench.engine.remove(view.details, part)
            bench.change(view.id, state=CredentialsState.DROPPED, slot=None)
            bench.counts(open=1)


def test_two_objects_of_one_token_and_type_are_double(each: Bench) -> None:
    caller = each.caller()
    left = each.create(caller)
    each.change(left.id, state=CredentialsState.DROPPED, slot=None)
    each.create(caller)
    # The first one's parts are orphans too: no live row names them.
    each.counts(double=1, orphans=len(each.engine.parts))


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


def test_two_live_rows_of_one_token_and_type_are_double(bench: Bench) -> None:
    first, second = bench.caller(), bench.caller()
    bench.create(first)
    bench.change(bench.create(second).id, token_id=first.principal.token_id)
    bench.counts(double=1)


def test_an_acknowledged_id_that_cannot_be_read_is_lost(bench: Bench) -> None:
    caller = bench.caller()
    view = bench.create(caller)
    bench.promise(caller, view, id=view.id + 1)
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
    bench.promise(caller, view, password="another")
    bench.counts(lost=1)


def test_the_table_names_what_was_found(bench: Bench) -> None:
    name = f"{bench.installation.prefix}left"
    bench.engine.run(f"CREATE DATABASE {name}")
    with pytest.raises(AssertionError, match=f"orphans .*1.* object {name}"):
        bench.oracle.assert_clean(timeout=0.1)


def test_a_login_that_works_is_told_from_one_that_does_not(each: Bench) -> None:
    view = each.create(each.caller())
    with pytest.raises(each.engine.error):
        each.engine.try_login({**view.details, "password": "another"})
