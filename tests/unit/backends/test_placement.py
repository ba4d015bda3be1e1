"""Which server a new credential goes to."""

from pathlib import Path

import pytest

from provisioning.backends.base import Placement
from provisioning.backends.servers import placement
from provisioning.backends.servers.placement import ServerLoads
from provisioning.configuration.secrets import Secret
from provisioning.configuration.servers import MySQLServer
from provisioning.errors import BackendFull, BackendUnavailable
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import Database
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(Secret(f"sqlite:///{tmp_path}/state.db"), 2)
    prepare_state(database)
    return database


def record(database: Database, number: int, server: str, state: CredentialsState) -> None:
    texts = ("backend", "type", "project_id", "project_name", "token_id", "token_description")
    more = ("user_name", "object_name", "secret")
    row = Credentials(
        id=number,
        server=server,
        state=state,
        created_at=0,
        touched_at=0,
        **dict.fromkeys((*texts, *more), "x"),
    )
    row.backend = "mysql"
    with database.write() as session:
        session.add(row)


def places(**capacities: int | None) -> list[Placement]:
    return [Placement(server, capacity) for server, capacity in capacities.items()]


def test_new_credentials_go_to_the_least_loaded_server(database: Database) -> None:
    for number in (1, 2, 3):
        record(database, number, "one", CredentialsState.ACTIVE)
    record(database, 4, "two", CredentialsState.ACTIVE)
    loads = ServerLoads(database)
    chosen = [loads.choose("mysql", places(one=None, two=None), None) for _ in range(4)]
    assert chosen == ["two", "two", "one", "two"]


def test_what_is_gone_does_not_count(database: Database) -> None:
    record(database, 1, "one", CredentialsState.DROPPED)
    record(database, 2, "two", CredentialsState.ACTIVE)
    assert ServerLoads(database).choose("mysql", places(one=None, two=None), None) == "one"


def test_a_person_stays_where_the_login_is_while_it_takes_new_ones(database: Database) -> None:
    record(database, 1, "one", CredentialsState.ACTIVE)
    loads = ServerLoads(database)
    assert loads.choose("mysql", places(one=None, two=None), "one") == "one"
    assert loads.choose("mysql", places(two=None), "one") == "two"


def test_a_full_server_takes_nothing(database: Database) -> None:
    record(database, 1, "one", CredentialsState.ACTIVE)
    loads = ServerLoads(database)
    assert loads.choose("mysql", places(one=1, two=1), "one") == "two"
    with pytest.raises(BackendFull) as full:
        loads.choose("mysql", places(one=1, two=1), "one")
    assert full.value.cause == "full by max_credentials: one (1), two (1)"
    with pytest.raises(BackendUnavailable):
        loads.choose("mysql", [], None)


def test_loads_are_counted_anew_after_a_while(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "COUNT_SECONDS", 0.0)
    loads = ServerLoads(database)
    assert loads.choose("mysql", places(one=1), None) == "one"
    # Nothing was recorded, so the place is free again.
    assert loads.choose("mysql", places(one=1), None) == "one"


def test_a_drained_server_is_no_choice() -> None:
    server = MySQLServer(name="one", host="h", user="u", password=Secret("p"), takes_new=False)
    assert not server.takes("sandbox")


def test_what_is_refused_after_the_choice_does_not_fill_the_server(database: Database) -> None:
    loads = ServerLoads(database)
    for _ in range(3):
        assert loads.choose("mysql", places(one=1), None) == "one"
        loads.give_back("mysql", "one")
    assert loads.choose("mysql", places(one=1), None) == "one"
    with pytest.raises(BackendFull):
        loads.choose("mysql", places(one=1), None)
