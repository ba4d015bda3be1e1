"""What fronts, workers and sweeps ask of a state with many rows: each statement reads a few."""

import json
import re
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import String, cast, insert, inspect, literal, select, update

from provisioning.backends.base import Backend, ServerObject
from provisioning.background.retention import forget_old
from provisioning.background.sweep import sweep
from provisioning.credentials.creation import read_slot
from provisioning.credentials.expiry import expired_on
from provisioning.jobs.backlog import require_queue_space
from provisioning.jobs.reading import find_job
from provisioning.jobs.scheduling import claim_next, next_after
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import now_ms, read_clock
from provisioning.state.enums import CallbackState, CredentialsState, JobCommand, JobStatus
from provisioning.state.models import Base, Callback, Credentials, Event, Job, RequestKey
from tests.support.servers import empty_state_url
from tests.support.statements import statements_of
from tests.support.waiting_jobs import MYSQL, Queue

#: Rows of each table: 2^13.
DOUBLINGS = 13
#: Rows, or entries of an index, that a step of a plan may read: a sweep's batch, and some.
FEW = 1_200
DAY = 86_400_000


class Places:
    """As much of a backend as a sweep wants to know."""

    def servers(self) -> list[str]:
        return ["default", "other"]

    def inventory(self, prefix: str, server: str) -> list[ServerObject]:
        return []

    def close(self) -> None:
        """There is nothing to close."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def big(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Queue]:
    """Many finished jobs of few projects, live credentials, and events; a few jobs wait."""
    queue = Queue(empty_state_url(request, request.param, tmp_path_factory.mktemp("plans")))
    prepare_state(queue.installation.database)
    queue.installation.backends["mysql"] = typing.cast(Backend, Places())
    for row in examples(queue):
        multiply(queue, row)
    queue.add("1", 30, limit=5), queue.add("2", 30), queue.add("3", 30, backend="docker")
    analyse(queue)
    yield queue
    queue.installation.close()


def examples(queue: Queue) -> list[Base]:
    """Return a row of each table that grows."""
    with queue.installation.database.read() as session:
        now = read_clock(session)
    owner = {"project_id": "1", "token_id": "1"}
    texts = {"project_name": "", "token_description": ""}
    return [
        Job(
            id=1_000_000,
            run_id="1",
            command=JobCommand.DELETE,
            status=JobStatus.SUCCESS,
            backend="mysql",
            params={},
            result={},
            slot="1:mysql:transformations",
            created_at=1,
            started_at=now,
            ended_at=now,
            **owner,
            **texts,
        ),
        Credentials(
            id=1_000_000,
            backend="mysql",
            type="transformations",
            state=CredentialsState.ACTIVE,
            server="default",
            user_name="u",
            object_name="o",
            secret="",
            created_at=1,
            touched_at=1000,
            expires_at=now + DAY,
            **owner,
            **texts,
        ),
        Event(id=1_000_000, time=now, action="job.step", run_id="", job_id=1, worker="w", **owner),
        Callback(id=1_000_000, state=CallbackState.TAKEN, url="", job_url=""),
        RequestKey(digest="0", body="", job_id=1, created_at=now),
    ]


def multiply(queue: Queue, row: Base) -> None:
    """Record the row, and double the rows of its table until they are many."""
    model = type(row)
    key = inspect(model).primary_key[0]
    with queue.installation.database.write() as session:
        session.add(row)
        session.flush()
        for shift in (2**n for n in range(DOUBLINGS)):
            new_key = key + literal(f"-{shift}" if model is RequestKey else shift)
            # Jobs are of four projects, and each credential is of a slot of its own.
            changed = {key.name: new_key}
            if model is Job:
                changed["project_id"] = cast(new_key % 4, String(64))
            if model is Credentials:
                changed["slot"] = cast(new_key, String(160))
            columns = [changed.get(column.name, column) for column in model.__table__.c]
            names = [column.name for column in model.__table__.c]
            session.execute(insert(model).from_select(names, select(*columns)))


def analyse(queue: Queue) -> None:
    """Count the rows, as servers do by themselves. Nobody does it for SQLite's planner."""
    with queue.installation.database._writing.connect() as connection:
        statement = {"postgresql": "ANALYZE", "mysql": "ANALYZE TABLE"}.get(connection.dialect.name)
        for table in Base.metadata.tables if statement else ():
            connection.exec_driver_sql(f"{statement} {table}")
        connection.commit()


def take_and_end(queue: Queue) -> None:
    claimed = claim_next(queue.installation, 0, MYSQL)
    assert claimed is not None
    next_after(queue.installation.database, claimed.job)
    queue.end(claimed)


def look_for_expired(queue: Queue) -> None:
    with queue.installation.database.read() as session:
        session.scalars(expired_on("mysql", "default").limit(32)).all()


ACTIONS: dict[str, Callable[[Queue], Any]] = {
    "sweep": lambda queue: sweep(queue.installation),
    "look for expired": look_for_expired,
    "forget": lambda queue: forget_old(queue.installation),
    "work": take_and_end,
    "room": lambda queue: require_queue_space(queue.installation, "1"),
    "slot": lambda queue: read_slot(queue.installation, "7:mysql:transformations"),
    "job": lambda queue: find_job(queue.installation.database, "1", "1000001"),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_few_rows_are_read(big: Queue, action: str) -> None:
    database = big.installation.database
    with statements_of(database) as statements:
        ACTIONS[action](big)
    assert statements
    for statement, parameters in statements:
        if statement.startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            require_few(big, statement, parameters)


def test_a_sweep_finds_expired_credentials_by_the_index_of_their_server(big: Queue) -> None:
    database = big.installation.database
    with statements_of(database) as statements:
        assert sweep(big.installation).expired == []
    (asked,) = [one for one in statements if "UNION ALL" in one[0]]
    plan = plan_of(big, *asked)
    assert "ix_credentials_expiry" in str(plan), plan


def test_a_batch_of_what_is_old_is_forgotten_by_a_few_rows(big: Queue) -> None:
    database = big.installation.database
    with database.write() as session:
        for model, end in ((Job, Job.ended_at), (Event, Event.time)):
            old = model.id < 1_000_300
            session.execute(update(model).where(old).values({end.name: now_ms() - 100 * DAY}))
    analyse(big)
    with statements_of(database) as statements:
        forget_old(big.installation)
    deletes = [one for one in statements if one[0].startswith("DELETE")]
    assert len(deletes) == 3
    for statement, parameters in statements:
        if statement.startswith(("SELECT", "DELETE")):
            require_few(big, statement, parameters)


def require_few(queue: Queue, statement: str, parameters: Any) -> None:
    """Fail if a step of the statement's plan reads a table through, or many rows of one."""
    plan = plan_of(queue, statement, parameters)
    if isinstance(plan, str):
        assert not re.search(r"SCAN (jobs|credentials|events|callbacks|request_keys)", plan), plan
        return
    for step in steps_of(plan):
        rows = rows_of(step)
        assert rows <= FEW, f"{rows} rows: {step}\n{statement}"


def plan_of(queue: Queue, statement: str, parameters: Any) -> Any:
    """Return the text of SQLite's plan; the tree of the others', of SELECTs as they went."""
    changes = not statement.startswith("SELECT")
    with queue.installation.database._writing.connect() as connection:
        kind = connection.dialect.name
        prefix = {
            "sqlite": "EXPLAIN QUERY PLAN",
            "postgresql": "EXPLAIN (FORMAT JSON" + (")" if changes else ", ANALYZE)"),
            "mysql": "EXPLAIN FORMAT=JSON" if changes else "ANALYZE FORMAT=JSON",
        }[kind]
        found = connection.exec_driver_sql(f"{prefix} {statement}", parameters).fetchall()
        connection.rollback()
    if kind == "sqlite":
        return "\n".join(row[-1] for row in found)
    return json.loads(found[0][0]) if kind == "mysql" else found[0][0]


def steps_of(plan: Any) -> Iterator[dict[str, Any]]:
    """Yield the parts of a plan that are about a table."""
    if isinstance(plan, list):
        for part in plan:
            yield from steps_of(part)
    elif isinstance(plan, dict):
        if "table_name" in plan or "Relation Name" in plan:
            yield plan
        for part in plan.values():
            yield from steps_of(part)


def rows_of(step: dict[str, Any]) -> float:
    """Return the rows that a step reads each time, by what happened or else the estimate."""
    if "Relation Name" in step:
        read = step.get("Actual Rows", step["Plan Rows"])
        return float(read + step.get("Rows Removed by Filter", 0))
    return float((step["r_rows"] if "r_loops" in step else step.get("rows")) or 0)
