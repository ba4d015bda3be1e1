"""What a transformation's row becomes (contract 8.2)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning.backends.base import ContentRefused
from provisioning.sandbox.request import (
    FileInput,
    LoadPlan,
    SandboxRequest,
    TableInput,
    TransformationRequest,
)
from provisioning.sandbox.transformation import make_plan, read_row
from provisioning.storage.base import StorageUnavailable
from tests.sandbox.stand_in import StandInStorage
from tests.sandbox.test_schemas import NAMES, TABLES, WORDS, objects

MINIMAL = {"backend": "docker", "type": "python"}
NAME = TransformationRequest("sys.c-tr-r", "4", "6789")


def refusal(**keys: Any) -> str:
    with pytest.raises(ContentRefused) as caught:
        read_row({**MINIMAL, **keys})
    return str(caught.value)


@pytest.mark.parametrize("language, type_", [("python", "jupyter"), ("r", "rstudio")])
def test_the_language_says_the_type(language: str, type_: str) -> None:
    assert read_row({"backend": "docker", "type": language}) == LoadPlan(type_)


def test_a_full_row_is_read_and_what_is_not_known_is_ignored() -> None:
    plan = read_row(
        {
            **MINIMAL,
            "name": "Orders",
            "phase": 1,
            "output": [{"source": "out.csv", "destination": "out.c-main.x"}],
            "queries": ["a = 1", "", "b = 'é'\n"],
            "packages": ["pandas", "numpy"],
            "tags": ["model", 2019, "model"],
            "input": [
                {
                    "source": "in.c-main.x",
                    "destination": "x.csv",
                    "columns": ["id"],
                    "whereColumn": "id",
                    "whereValues": ["1", 2],
                    "whereOperator": "ne",
                    "changedSince": "-2 days",
                    "limit": 5,
                    "loadType": "clone",
                    "datatypes": {},
                    "where_column": "ignored",
                },
                {"source": "in.c-main.y", "days": 3},
            ],
        }
    )
    assert plan == LoadPlan(
        type="jupyter",
        script="a = 1\n\nb = 'é'\n",
        packages=("pandas", "numpy"),
        tables=(
            TableInput(
                "in.c-main.x",
                "x.csv",
                ("id",),
                changed_since="-2 days",
                where_column="id",
                where_values=("1", "2"),
                where_operator="ne",
                limit=5,
            ),
            TableInput("in.c-main.y", days=3),
        ),
        files=(FileInput(tags=("model", "2019")),),
        user_tags=("model", "2019"),
    )


@pytest.mark.parametrize("empty", [None, [], "", {}])
def test_what_is_empty_is_absent(empty: Any) -> None:
    keys = ("queries", "packages", "tags", "input", "output")
    assert read_row({**MINIMAL, **dict.fromkeys(keys, empty)}) == LoadPlan("jupyter")


def test_what_an_editor_leaves_empty_in_a_table_is_absent() -> None:
    empty = {
        "source": "x",
        "destination": "",
        "whereColumn": "",
        "whereValues": [],
        "whereOperator": "",
        "changedSince": "",
        "columns": [],
        "days": 0,
        "limit": None,
    }
    assert read_row({**MINIMAL, "input": [empty]}).tables == (TableInput("x"),)


@pytest.mark.parametrize(
    "keys, message",
    [
        (
            {"backend": "mysql"},
            "Transformations of backend 'mysql' have no sandbox. Allowed backends are 'docker'.",
        ),
        (
            {"type": "julia"},
            "Transformations of type 'julia' have no sandbox. Allowed types are 'python,r'.",
        ),
        ({"type": None}, "The transformation cannot be used. Parameter 'type' is required."),
        (
            {"queries": "a"},
            "The transformation cannot be used. "
            "Parameter 'queries' is invalid: an array is expected",
        ),
        (
            {"input": [{"source": "x"}, {"source": "y", "whereOperator": "lt"}]},
            "The transformation cannot be used. "
            "Parameter 'input[1].whereOperator' is invalid: it is not eq or ne",
        ),
        (
            {"input": [{"destination": "x"}]},
            "The transformation cannot be used. Parameter 'input[0].source' is required.",
        ),
        (
            {"input": [{"source": "x", "destination": "../x"}]},
            "The transformation cannot be used. "
            "Parameter 'input[0].destination' is invalid: it is not a plain file name",
        ),
        (
            {"input": [{"source": "x"}, {"source": "y", "destination": "x"}]},
            "The transformation cannot be used. Parameter 'input[1].destination' is invalid: "
            "'x' is taken by another table or its manifest",
        ),
        (
            {"input": [{"source": "x", "days": 1, "changedSince": "-2 days"}]},
            "The transformation cannot be used. "
            "Cannot set both parameters 'days' and 'changed_since'.",
        ),
        (
            {"tags": ["a/b", "a_b"]},
            "Tag 'a_b' would take the place of another tag's file a_b or of its manifest.",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_what_is_wrong(
    keys: dict[str, Any], message: str
) -> None:
    assert refusal(**keys) == message


@settings(deadline=None, max_examples=200)
@given(
    objects(
        queries=st.lists(WORDS, max_size=3),
        packages=st.lists(NAMES, max_size=2),
        tags=st.lists(WORDS | st.integers(), max_size=3),
        input=st.lists(TABLES, max_size=2),
        type=st.sampled_from(["python", "r"]),
    )
)
def test_any_row_is_read_or_refused(row: dict[str, Any]) -> None:
    try:
        read_row({**MINIMAL, **row})
    except ContentRefused as problem:
        assert str(problem)


# Where plans come from ------------------------------------------------------------------


def test_a_plain_request_is_its_own_plan() -> None:
    table, file = TableInput("x"), FileInput(tags=("a",))
    request = SandboxRequest("rstudio", "1 + 1", (table,), (file,))
    assert make_plan(request, None) == LoadPlan("rstudio", "1 + 1", tables=(table,), files=(file,))
    assert make_plan(SandboxRequest("jupyter"), None) == LoadPlan("jupyter")


def test_a_transformation_is_read_in_its_version() -> None:
    storage = StandInStorage()
    storage.rows["sys.c-tr-r", "4", "6789"] = {**MINIMAL, "queries": ["x"]}
    assert make_plan(NAME, storage) == LoadPlan("jupyter", "x")
    assert storage.calls == [("configuration_row", "sys.c-tr-r", "4", "6789")]


def test_a_missing_row_is_told_in_the_words_of_storage() -> None:
    with pytest.raises(ContentRefused, match="^Configuration Row not found$"):
        make_plan(NAME, StandInStorage())


def test_no_storage_is_told() -> None:
    message = "^Transformations cannot be read: the service has no Storage.$"
    with pytest.raises(ContentRefused, match=message):
        make_plan(NAME, None)


def test_a_storage_that_is_away_is_no_fault_of_the_caller() -> None:
    storage = StandInStorage()
    storage.failures["configuration_row"] = StorageUnavailable("away")
    with pytest.raises(StorageUnavailable):
        make_plan(NAME, storage)
