"""What the queries of the job list find, in each kind of state database (contract 9.3)."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert

from api.queue import record
from provisioning.errors import QueryInvalid
from provisioning.jobs.search.language import DEEPEST, LONGEST, MOST_CONDITIONS, parse
from provisioning.jobs.search.listing import JobSearch, list_jobs
from provisioning.state.bootstrap import prepare_state
from provisioning.state.database import Database
from provisioning.state.models import Job
from tests.support.servers import empty_state
from tests.unit.jobs.search.job_queries import (
    PROJECT,
    hostile_text,
    random_job,
    random_query,
    scalars,
)

URL = "http://service.example/queue/job/"
JOBS = {"sqlite": 10_000, "postgresql": 500, "mariadb": 500}
PAGE = 200
QUERIES = {"sqlite": 50, "postgresql": 100, "mariadb": 100}


@dataclass
class Filled:
    """A state with random jobs of one project, and their records as they are printed."""

    kind: str
    database: Database
    records: list[dict[str, Any]]

    def find(self, text: str, limit: int = PAGE) -> list[int]:
        search = JobSearch(limit, conditions=(parse(text),))
        return [job.id for batch in list_jobs(self.database, PROJECT, URL, search) for job in batch]

    @property
    def newest(self) -> list[int]:
        return [job["id"] for job in self.records[:PAGE]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filled]:
    kind = request.param
    database = empty_state(request, kind, tmp_path_factory.mktemp("queries"))
    prepare_state(database)
    random = Random(9)
    rows = [random_job(random, id_) for id_ in range(1, JOBS[kind] + 1)]
    with database.write() as session:
        session.execute(insert(Job), rows)
    jobs = list(chain.from_iterable(list_jobs(database, PROJECT, URL, JobSearch(len(rows)))))
    yield Filled(kind, database, printed_records(jobs))
    database.dispose()


class _Settings:
    config = SimpleNamespace(public_url="http://service.example")


def printed_records(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Return the records as callers read them."""
    app = Flask("printing")
    app.extensions["installation"] = _Settings
    with app.app_context():
        found: list[dict[str, Any]] = json.loads(json.dumps([record(job, None) for job in jobs]))
    return found


# What is found --------------------------------------------------------------------------


def test_every_answer_is_that_of_a_plain_filter_over_the_records(filled: Filled) -> None:
    random = Random(93)
    jobs = [(job["id"], scalars(job)) for job in filled.records]
    samples = [values for _, values in jobs[:300]]
    empty = 0
    for _ in range(QUERIES[filled.kind]):
        query = random_query(random, samples)
        expected = [id_ for id_, values in jobs if query.holds(values)][:PAGE]
        assert filled.find(query.text) == expected, query.text
        empty += not expected
    assert empty < QUERIES[filled.kind] / 3


def test_every_scalar_of_a_record_is_found_by_its_name(filled: Filled) -> None:
    """A key that the record gains is not forgotten here."""
    names: set[str] = set()
    for printed in filled.records:
        new = {name: value for name, value in scalars(printed).items() if name not in names}
        names |= set(new)
        for name, value in new.items():
            text = value if isinstance(value, str) else json.dumps(value)
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            assert printed["id"] in filled.find(f'{name}:"{escaped}" id:{printed["id"]}'), name
    assert {
        "id",
        "error",
        "url",
        "isFinished",
        "project.id",
        "params.transformation.row_id",
    } < names


@pytest.mark.parametrize("name", ["foo", "foo.bar", "result.status", "params", "usage", "Status"])
def test_a_field_that_no_job_has_matches_nothing(filled: Filled, name: str) -> None:
    for test in ("x", "x*", '""', "[1 TO *]", "[* TO *]", ">2018-06-21"):
        assert filled.find(f"{name}:{test}") == []
        assert filled.find(f"-{name}:{test}") == filled.newest


def test_what_is_not_so_includes_what_is_not_known(filled: Filled) -> None:
    for name, value in (("error", "user"), ("durationSeconds", ">0"), ("params.flag", "true")):
        missing = {job["id"] for job in filled.records if name not in scalars(job)}
        assert missing
        assert missing & set(filled.newest) <= set(filled.find(f"-{name}:{value}"))
        assert not missing & set(filled.find(f"{name}:{value}"))


@pytest.mark.parametrize(
    "value",
    ["a\0", "\0", "\ud800", "\udfff*", "9" * 3900, "-" + "9" * 19, str(2**63 + 7), "\U0010ffff"],
    ids=range(8),
)
def test_a_value_that_no_database_holds_is_found_nowhere(filled: Filled, value: str) -> None:
    for name in ("id", "runId", "status", "createdTime", "url", "params.text", "isFinished"):
        assert filled.find(f"{name}:{value}") == []
        assert filled.find(f'-{name}:"{value}"', limit=1) == filled.newest[:1]


def test_numbers_beyond_those_of_the_databases_bound_a_range(filled: Filled) -> None:
    huge = "9" * 60
    for name in ("id", "durationSeconds", "params.id"):
        known = filled.find(f"{name}:[* TO {huge}]")
        assert known and known == filled.find(f"{name}:[-{huge} TO {huge}]")
        assert filled.find(f"{name}:>{huge}") == filled.find(f"{name}:<-{huge}.5") == []


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_one_jobs_unreadable_parameters_do_not_hide_the_others(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    database = empty_state(request, kind, tmp_path_factory.mktemp("unreadable"))
    prepare_state(database)
    texts = ["a\0b", "\\u0000", "😀", "b"] + (["\ud800", "x\udc00"] if kind != "mariadb" else [])
    rows = [random_job(Random(1), id_) for id_ in range(len(texts))]
    for row, text in zip(rows, texts, strict=True):
        row["params"] = {"backend": "docker", "text": text}
    with database.write() as session:
        session.execute(insert(Job), rows)
    state = Filled(kind, database, [])
    assert state.find("params.text:b") == [3]
    assert state.find("params.text:😀*") == [2]
    assert state.find('params.text:"\\\\u0000"') == [1]
    assert {1, 2, 3} <= set(state.find("params.backend:docker"))
    database.dispose()


# Hostile input --------------------------------------------------------------------------


def test_hostile_queries_are_answered(filled: Filled) -> None:
    random, answered = Random(5), 0
    while answered < 100:
        text = hostile_text(random)
        try:
            filled.find(text, limit=1)
        except QueryInvalid:
            continue
        answered += 1


def test_the_largest_query_is_answered(filled: Filled) -> None:
    names = ["id", "waitSeconds", "nestingLevel", "params." + ".".join("a" * 10), "url", "endTime"]
    tests = ["9*", "1", "[* TO *]"]
    parts = [f"-{name}:{test}" for name in names for test in tests]
    parts = (parts * MOST_CONDITIONS)[:MOST_CONDITIONS]
    text = " ".join(f"({part}" if place < DEEPEST else part for place, part in enumerate(parts))
    text += ")" * DEEPEST
    assert len(text) <= LONGEST
    assert isinstance(filled.find(text), list)
