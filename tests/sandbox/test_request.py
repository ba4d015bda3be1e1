"""How a request is kept, shown and turned into questions to Storage (contract 8.1, 9.1.3)."""

import json
from typing import Any

import pytest

from provisioning.sandbox.request import (
    FileInput,
    SandboxRequest,
    TableInput,
    TransformationRequest,
    job_params,
    read_request,
)
from provisioning.storage.base import FileQuery, TableQuery
from tests.sandbox.test_schemas import FULL, ROW


def test_a_request_survives_being_kept() -> None:
    for body, kind in (
        (FULL, SandboxRequest),
        ({"type": "rstudio", "ttl": 60}, SandboxRequest),
        ({"transformation": ROW}, TransformationRequest),
        ({"transformation": ROW, "ttl": 60}, TransformationRequest),
    ):
        request = read_request(json.loads(json.dumps(body)))
        assert isinstance(request, kind)
        assert request.to_json() == body
        assert read_request(request.to_json()) == request


def test_a_script_is_not_printed() -> None:
    assert "hunter2" not in repr(SandboxRequest("jupyter", "password = 'hunter2'"))


@pytest.mark.parametrize(
    "body, shown",
    [
        ({"type": "jupyter"}, {"type": "jupyter", "input": []}),
        ({"type": "jupyter", "script": "secret"}, {"type": "jupyter", "input": []}),
        ({"type": "rstudio", "input": {}}, {"type": "rstudio", "input": []}),
        (FULL, {"type": "jupyter", "input": FULL["input"]}),
        (
            {"type": "jupyter", "input": {"tables": [], "files": []}},
            {"type": "jupyter", "input": {"tables": [], "files": []}},
        ),
        ({"type": "jupyter", "ttl": 60}, {"type": "jupyter", "ttl": 60, "input": []}),
        ({"transformation": ROW}, {"transformation": ROW}),
        ({"transformation": ROW, "ttl": 60}, {"transformation": ROW, "ttl": 60}),
    ],
)
def test_a_job_shows_the_request_without_its_script(
    body: dict[str, Any], shown: dict[str, Any]
) -> None:
    assert job_params(read_request(body)) == {"backend": "docker", **shown}


def test_a_table_is_asked_for_as_a_whole_by_default() -> None:
    table = TableInput("in.c-main.x")
    assert table.file_name == "in.c-main.x"
    assert table.query() == TableQuery("in.c-main.x")
    empty = TableInput("x", columns=(), changed_since="", where_column="", where_operator="")
    assert empty.query() == TableQuery("x")


def test_days_are_sent_as_a_period() -> None:
    assert TableInput("x", days=7).query() == TableQuery("x", changed_since="-7 days")
    assert TableInput("x", changed_since="2019-01-01").query().changed_since == "2019-01-01"


@pytest.mark.parametrize(
    "filter_", [{"where_column": "id"}, {"where_values": ("1",), "where_operator": "ne"}]
)
def test_a_filter_needs_a_column_and_a_value(filter_: dict[str, Any]) -> None:
    assert TableInput("x", **filter_).query() == TableQuery("x")


@pytest.mark.parametrize("operator, sent", [(None, "eq"), ("", "eq"), ("eq", "eq"), ("ne", "ne")])
def test_an_empty_operator_means_equal(operator: str | None, sent: str) -> None:
    table = TableInput(
        "x", "y", ("a",), where_column="a", where_values=("",), where_operator=operator, limit=5
    )
    assert table.file_name == "y"
    assert table.query() == TableQuery(
        "x", ("a",), where_column="a", where_values=("",), where_operator=sent, limit=5
    )


def test_ten_files_are_asked_for_by_default_and_of_any_run() -> None:
    assert FileInput(tags=("a", "b")).file_query("5") == FileQuery(tags=("a", "b"), limit=10)
    file = FileInput(query="q", filter_by_run_id=True, limit=3)
    assert file.file_query("5") == FileQuery(query="q", run_id="5", limit=3)
