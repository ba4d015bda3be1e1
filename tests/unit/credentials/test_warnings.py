"""When rows are looked at because of their ends, and who is warned how often."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, insert, literal, select, update

from provisioning.credentials.warnings import attend_at, due_rows, take_due
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import Database, read_clock
from provisioning.state.enums import CredentialsState
from provisioning.state.models import Credentials, Event
from tests.support.servers import empty_state
from tests.support.statements import statements_of
from tests.support.waiting_jobs import Queue
from tests.unit.credentials.ending_credentials import DAY, HOUR, add_credentials, credential
from tests.unit.jobs.search.test_listing import explain

#: In the words of each database: the index leads to what is due, and what is not stays unread.
PLAN = {
    "sqlite": (
        "SEARCH credentials USING INDEX ix_credentials_attend (state=? AND attend_at",
        "B-TREE",
    ),
    "postgresql": ("Index Cond: (((state)::text = 'active'::text) AND (attend_at <=", "Seq Scan"),
    "mysql": ('"key": "ix_credentials_attend"', '"access_type": "ALL"'),
}


@pytest.fixture
def now(queue: Queue) -> int:
    """The database's time; nothing is due but what the test adds."""
    with queue.installation.database.write() as session:
        session.execute(update(Credentials).values(attend_at=None))
        session.execute(delete(Event))
        return read_clock(session)


def leads_warned_of(queue: Queue, number: int) -> list[int]:
    query = select(Event).where(Event.credentials_id == number).order_by(Event.id)
    with queue.installation.database.read() as session:
        events = session.scalars(query).all()
    assert {event.action for event in events} <= {"credentials.expiring"}
    return [(event.detail or {})["leadSeconds"] for event in events]


def read(queue: Queue, number: int) -> Credentials:
    with queue.installation.database.read() as session:
        return session.get_one(Credentials, number)


def put_forward(queue: Queue, number: int, expires_at: int) -> None:
    """Let time pass until the credential ends so soon, and be looked at."""
    with queue.installation.database.write() as session:
        row = session.get_one(Credentials, number)
        shift = (row.expires_at or 0) - expires_at
        row.expires_at, row.touched_at = expires_at, row.touched_at - shift
        row.warned_at = row.warned_at and row.warned_at - shift
        row.attend_at = attend_at(queue.installation.config, row, read_clock(session))
    take_due(queue.installation)


def test_owners_are_warned_once_for_each_lead(queue: Queue, now: int) -> None:
    number = add_credentials(queue, now + 2 * DAY, attend_at=now)
    take_due(queue.installation)
    assert leads_warned_of(queue, number) == []
    assert read(queue, number).attend_at == now + DAY
    put_forward(queue, number, now + DAY - 1000)
    put_forward(queue, number, now + DAY - 2000)
    assert leads_warned_of(queue, number) == [DAY // 1000]
    assert read(queue, number).attend_at == now + DAY - 2000 - HOUR
    put_forward(queue, number, now + HOUR // 2)
    put_forward(queue, number, now + HOUR // 3)
    assert leads_warned_of(queue, number) == [DAY // 1000, HOUR // 1000]
    assert read(queue, number).attend_at is None


def test_of_leads_that_were_missed_only_the_shortest_is_told(queue: Queue, now: int) -> None:
    number = add_credentials(queue, now + HOUR // 2, attend_at=now - DAY)
    take_due(queue.installation)
    assert leads_warned_of(queue, number) == [HOUR // 1000]
    assert read(queue, number).attend_at is None


@pytest.mark.parametrize(
    "columns",
    [
        {"touched_at": 0, "expires_at": None},
        {"state": CredentialsState.DROPPING},
        {"state": CredentialsState.CREATING},
        {"expires_at": -1000},
        {"touched_at": -HOUR // 2},
        {"protected_until": 2 * DAY},
    ],
)
def test_nobody_is_warned_of_no_end_or_of_a_life_shorter_than_the_lead(
    queue: Queue, now: int, columns: dict[str, int | None]
) -> None:
    relative = ("expires_at", "touched_at", "protected_until")
    shifted = {name: value + now if name in relative and value is not None else value
               for name, value in columns.items()}  # fmt: skip
    end = shifted.pop("expires_at", now + HOUR // 2)
    number = add_credentials(queue, end, attend_at=now, **shifted)
    take_due(queue.installation)
    assert leads_warned_of(queue, number) == []


def test_any_number_of_looks_at_once_warn_once(queue: Queue, now: int) -> None:
    numbers = [add_credentials(queue, now + HOUR // 2, attend_at=now) for _ in range(40)]
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(take_due, queue.installation) for _ in range(6)]:
            done.result()
    assert [leads_warned_of(queue, number) for number in numbers] == [[HOUR // 1000]] * 40


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def crowded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """Many live credentials, one in 256 of them due, and as many dropped ones."""
    database = empty_state(request, request.param, tmp_path_factory.mktemp("crowded"))
    prepare_state(database)
    with database.write() as session:
        for number in range(512):
            due = number % 256 == 0
            state = CredentialsState.ACTIVE if number % 2 == 0 else CredentialsState.DROPPED
            session.add(credential(number, DAY, state=state, attend_at=1 if due else DAY + number))
        session.flush()
        for shift in (512 * 2**n for n in range(5)):
            columns = [column for column in Credentials.__table__.c if column.name != "id"]
            shifted = select((Credentials.id + literal(shift)).label("id"), *columns)
            names = ["id", *(column.name for column in columns)]
            session.execute(insert(Credentials).from_select(names, shifted))
    with database.connect() as connection:
        table = "TABLE " if request.param == "mariadb" else ""
        connection.exec_driver_sql(f"ANALYZE {table}credentials")
    yield database
    database.dispose()


def test_what_is_due_is_found_by_the_index(crowded: Database) -> None:
    with statements_of(crowded) as statements, crowded.read() as session:
        assert len(session.scalars(due_rows(2)).all()) == 64
    kind, plan = explain(crowded, *statements[-1])
    used, unwanted = PLAN[kind]
    assert used in plan, plan
    assert unwanted not in plan, plan
