"""What a page of the job list costs, with many jobs of many projects."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import event, insert, literal, select
from sqlalchemy.engine import Engine

from api.app import create_app
from provisioning.access.tokens import LocalTokens
from provisioning.configuration import config
from provisioning.configuration.secrets import Secret, generate_key
from provisioning.installation import Installation, build_installation
from provisioning.jobs.search.listing import JobSearch, list_jobs
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import Database
from provisioning.state.enums import CredentialsState, JobCommand, JobStatus
from provisioning.state.models import Credentials, Job
from tests.support.servers import empty_state
from tests.unit.jobs.search.job_queries import random_job

FIRST = 1024
#: 131,072 jobs, and 32,768.
DOUBLINGS = {"sqlite": 7, "postgresql": 5, "mariadb": 5}
#: How often a plan has these words: ids come from the index alone, in its order; the rows of
#: the page by their keys; and only the page is sorted once more.
PLAN = {
    "sqlite": {
        "SEARCH jobs USING COVERING INDEX ix_jobs_project (project_id=?": 1,
        "SCAN": 1,
        "SCAN page": 1,
        "TEMP B-TREE": 1,
    },
    "postgresql": {
        "Index Only Scan Backward using ix_jobs_project on jobs": 1,
        "Index Scan using jobs_pkey on jobs": 1,
        "Scan": 2,
        "Sort": 0,
    },
    "mysql": {
        '"key": "ix_jobs_project"': 1,
        '"using_index": true': 1,
        '"access_type": "eq_ref"': 1,
        '"access_type": "ALL"': 1,
        '"table_name": "<derived': 1,
        '"filesort"': 1,
    },
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """Many jobs: each 16th is of the project ``big``, the others are of 480 projects."""
    database = empty_state(request, request.param, tmp_path_factory.mktemp("pages"))
    prepare_state(database)
    random = Random(1)
    rows = [random_job(random, id_) for id_ in range(FIRST)]
    for row in rows:
        row["project_id"] = f"small{row['id'] % 512}" if row["id"] % 16 else "big"
    with database.write() as session:
        session.execute(insert(Job), rows)
        for shift in (FIRST * 2**n for n in range(DOUBLINGS[request.param])):
            columns = [column for column in Job.__table__.c if column.name != "id"]
            shifted = select((Job.id + literal(shift)).label("id"), *columns)
            names = ["id", *(column.name for column in columns)]
            session.execute(insert(Job).from_select(names, shifted))
    with database.connect() as connection:
        connection.exec_driver_sql(
            {
                "sqlite": "ANALYZE jobs",
                # Its own autovacuum does this after a while.
                "postgresql": "VACUUM ANALYZE jobs",
                "mariadb": "ANALYZE TABLE jobs",
            }[request.param]
        )
    yield database
    database.dispose()


def page(database: Database, project: str, **search: Any) -> list[int]:
    return [
        job.id for batch in list_jobs(database, project, "", JobSearch(**search)) for job in batch
    ]


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collect what is sent to any database during a block."""
    found: list[tuple[str, Any]] = []

    def collect(_c: Any, _x: Any, statement: str, parameters: Any, *_: Any) -> None:
        found.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", collect)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", collect)


def explain(database: Database, statement: str, parameters: Any) -> tuple[str, str]:
    """Return the kind of database and its plan of a statement, in its own words."""
    prefixes = {
        "sqlite": "EXPLAIN QUERY PLAN ",
        "postgresql": "EXPLAIN ",
        "mysql": "EXPLAIN FORMAT=JSON ",
    }
    with database.connect() as connection:
        kind = connection.dialect.name
        rows = connection.exec_driver_sql(prefixes[kind] + statement, parameters).fetchall()
    return kind, "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize("project", ["big", "small2"])
@pytest.mark.parametrize("before", [None, 10_000])
def test_a_page_is_read_in_order_from_the_index(
    database: Database, project: str, before: int | None
) -> None:
    with statements() as sent:
        assert page(database, project, limit=100, before=before)
    # The jobs of the page are chosen first, and then read by their ids.
    kind, plan = explain(database, *sent[0])
    for part, count in PLAN[kind].items():
        assert plan.count(part) == count, plan


def test_pages_by_id_hold_every_job_once(database: Database) -> None:
    ids = page(database, "small2", limit=1000)
    assert ids == sorted(ids, reverse=True) and len(ids) >= 64
    pages, before = [], None
    while found := page(database, "small2", limit=50, before=before):
        pages += found
        before = found[-1]
    assert pages == ids
    assert page(database, "small2", limit=50, offset=50) == ids[50:100]


def test_what_no_record_shows_is_not_read(database: Database) -> None:
    with statements() as sent:
        page(database, "big", limit=1)
    assert "params" in sent[-1][0]
    assert "request" not in sent[-1][0] and "failure" not in sent[-1][0]


def test_the_passwords_of_a_page_are_one_query(tmp_path: Path) -> None:
    """With the token, the choice of the page, and the page itself, four."""
    settings = {
        "STATE_URL": f"sqlite:///{tmp_path}/state.db",
        "BROKER_URL": "memory://",
        "ENCRYPTION_KEYS": generate_key().reveal(),
    }
    installation = build_installation(config.load(settings))
    prepare_state(installation.database)
    owner, token = LocalTokens(installation.database).create(
        project_id="7", project_name="", person_id=None, description="", features=[]
    )
    random = Random(1)
    with installation.database.write() as session:
        for id_ in range(1, 51):
            created = {"credentials_id": id_, "result": {"credentials": {"id": id_}}}
            whose = {"project_id": "7", "token_id": str(owner), "command": JobCommand.CREATE}
            job = {**random_job(random, id_), **created, **whose, "status": JobStatus.SUCCESS}
            session.add_all([Job(**job), sandbox(installation, id_)])
    client = create_app(installation).test_client()
    with statements() as sent:
        answer = client.get("/queue/jobs", headers={"X-StorageApi-Token": token.reveal()})
    passwords = [job["result"]["credentials"]["password"] for job in answer.json or []]
    assert passwords == [f"password {id_}" for id_ in range(50, 0, -1)]
    assert len(sent) == 4


def sandbox(installation: Installation, id_: int) -> Credentials:
    texts = ("project_name", "token_description", "server", "user_name", "object_name")
    return Credentials(
        id=id_,
        backend="docker",
        type="jupyter",
        state=CredentialsState.ACTIVE,
        project_id="7",
        token_id="1",
        secret=installation.vault.encrypt(Secret(f"password {id_}")),
        created_at=0,
        touched_at=0,
        **dict.fromkeys(texts, ""),
    )
