"""What a page of the operators' audit costs, among many events, in each kind of database."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert

from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import Database
from provisioning.state.event_search import EventSearch, find_events
from provisioning.state.models import Event
from tests.support.servers import empty_state
from tests.unit.jobs.search.test_listing import explain, statements

EVENTS, FIRST_SECOND = 16_384, 1_700_000_000
#: A value in each column that a 64th of the events has, none of them at the end.
RARE: dict[str, Any] = {
    "project_id": "rare",
    "token_id": "rare",
    "run_id": "rare",
    "action": "rare",
    "job_id": 7,
    "credentials_id": 7,
}
#: What a plan says of ids that come from an index in its order; only the page is sorted again.
IN_ORDER = {
    "sqlite": ("USING COVERING INDEX {index} ", "TEMP B-TREE"),
    "postgresql": ("Index Only Scan Backward using {index} ", "Sort"),
    "mysql": ('"key": "{index}"', '"filesort"'),
}
#: How often the page is sorted at most.
SORTS = {"sqlite": 1, "postgresql": 2, "mysql": 1}


def made(number: int) -> dict[str, Any]:
    """Return an event of its number; there is one in a second."""
    rare = number % 64 == 1
    return {
        "id": number,
        "time": (FIRST_SECOND + number) * 1000,
        "worker": "host:1",
        **{
            name: value if rare else (f"often{number % 4}" if value == "rare" else number % 4)
            for name, value in RARE.items()
        },
    }


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    database = empty_state(request, request.param, tmp_path_factory.mktemp("audit"))
    prepare_state(database)
    with database.write() as session:
        session.execute(insert(Event), [made(number) for number in range(1, EVENTS + 1)])
    analyse = {"postgresql": "VACUUM ANALYZE events", "mariadb": "ANALYZE TABLE events"}
    with database.connect() as connection:
        connection.exec_driver_sql(analyse.get(request.param, "ANALYZE events"))
    yield database
    database.dispose()


def found(database: Database, **search: Any) -> list[int]:
    return [event.id for event in find_events(database, EventSearch(**search))]


@pytest.mark.parametrize("column", [*RARE, None])
@pytest.mark.parametrize("before", [None, 9000])
def test_a_page_is_read_in_order_from_an_index(
    database: Database, column: str | None, before: int | None
) -> None:
    with statements() as sent:
        columns = {column: RARE[column]} if column else {}
        page = found(database, limit=20, before=before, columns=columns)
    last = (before or EVENTS + 1) - 1
    assert page == [id_ for id_ in range(last, 0, -1) if id_ % 64 == 1 or not column][:20]
    kind, plan = explain(database, *sent[-1])
    wanted, sort = IN_ORDER[kind]
    if column:
        name = f"ix_events_{column.removesuffix('_id')}"
        assert wanted.format(index=name) in plan, plan
    assert plan.count(sort) <= SORTS[kind], plan


def test_times_are_exact_and_bound_what_is_read(database: Database) -> None:
    since, until = FIRST_SECOND + 5000, FIRST_SECOND + 5009
    with statements() as sent:
        page = found(database, limit=1000, since=since, until=until)
    assert page == list(range(5009, 4999, -1))
    for statement, parameters in sent[:-1]:
        kind, plan = explain(database, statement, parameters)
        assert "ix_events_time" in plan, plan
    # Ids that are bounds of the last one: minutes apart, as is a second each.
    bounds = [value for value in _numbers(sent[-1][1]) if value <= EVENTS]
    assert len(bounds) == 2 and max(bounds) - min(bounds) < 300
    assert found(database, limit=5, since=FIRST_SECOND + EVENTS + 1) == []
    assert found(database, limit=5, until=FIRST_SECOND) == []
    assert len(found(database, limit=EVENTS, since=1, until=FIRST_SECOND * 2)) == EVENTS


def _numbers(parameters: Any) -> list[int]:
    values = parameters.values() if isinstance(parameters, dict) else parameters
    # Neither the limit, nor SQLite's offset.
    return [value for value in values if isinstance(value, int) and value not in (0, 1000)]
