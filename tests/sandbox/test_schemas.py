"""What a sandbox's create takes and what it refuses (contract 2.6, 3, 8.1, 8.2)."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.schemas import CreateFromTransformation, CreateSandbox, load
from provisioning import errors
from provisioning.configuration.catalog import backend_rules, require_type
from provisioning.sandbox.request import SandboxRequest, job_params, read_request

CREATE_SANDBOX, CREATE_FROM_TRANSFORMATION = CreateSandbox(), CreateFromTransformation()
FULL: dict[str, Any] = {
    "type": "jupyter",
    "script": "print(1)\n",
    "input": {
        "tables": [
            {"source": "in.c-main.orders"},
            {
                "source": "in.c-main.orders",
                "destination": "orders.csv",
                "columns": ["id", "name"],
                "days": 7,
                "where_column": "id",
                "where_values": ["1", ""],
                "where_operator": "ne",
                "limit": 100,
            },
            {"source": "in.c-main.x", "changed_since": "-2 days"},
        ],
        "files": [
            {"tags": ["a", "b"], "limit": 3},
            {"query": "name:x", "processed_tags": ["done"], "filter_by_run_id": True},
        ],
    },
}
TABLE_KEYS = (
    "source,destination,columns,days,changed_since,where_column,where_values,where_operator,limit"
)
FILE_KEYS = "tags,query,processed_tags,filter_by_run_id,limit"
REASONS = ("parameter_unknown", "parameter_missing", "parameter_invalid")
POSITIVE = "an integer from 1 to 2147483647 is expected"


def sandbox(body: dict[str, Any]) -> dict[str, Any]:
    return load(CREATE_SANDBOX, body)


def with_tables(*tables: Any) -> dict[str, Any]:
    return {"type": "jupyter", "input": {"tables": list(tables)}}


def with_table(**keys: Any) -> dict[str, Any]:
    return with_tables({"source": "in.c-main.x", **keys})


def with_file(**keys: Any) -> dict[str, Any]:
    return {"type": "jupyter", "input": {"files": [keys]}}


def refusal(body: dict[str, Any]) -> str:
    with pytest.raises(errors.ProvisioningError) as caught:
        sandbox(body)
    return caught.value.message


def test_a_full_body_is_loaded_as_it_was_sent() -> None:
    assert sandbox(copy.deepcopy(FULL)) == FULL


def test_the_type_alone_is_enough_and_any_string_is_left_to_the_catalog() -> None:
    assert sandbox({"type": ""}) == {"type": ""}


@pytest.mark.parametrize(
    "sent, loaded",
    [([], {}), ({}, {}), ({"tables": []}, {"tables": []}), ({"tables": None, "files": None}, {})],
)
def test_an_empty_input_is_an_object_or_an_array(sent: Any, loaded: Any) -> None:
    assert sandbox({"type": "rstudio", "input": sent})["input"] == loaded


def test_null_counts_as_absent_at_every_depth_even_of_unknown_keys() -> None:
    body = copy.deepcopy(FULL)
    for holder in (body, body["input"], *body["input"]["tables"], *body["input"]["files"]):
        holder["nothing"] = None
        for name in TABLE_KEYS.split(","):
            if holder in body["input"]["tables"]:
                holder.setdefault(name, None)
    assert sandbox(body) == FULL
    assert sandbox({"type": "jupyter", "script": None, "input": None}) == {"type": "jupyter"}


@pytest.mark.parametrize(
    "body, message",
    [
        ({}, "Parameter 'type' is required."),
        ({"type": None}, "Parameter 'type' is required."),
        ({"type": 5}, "Parameter 'type' is invalid: a string is expected"),
        (
            {"type": "jupyter", "size": 1},
            "Parameter 'size' is not allowed. Allowed params are 'type,script,input,ttl'",
        ),
        (
            {"type": "jupyter", "script": ["x"]},
            "Parameter 'script' is invalid: a string is expected",
        ),
        ({"type": "jupyter", "input": [1]}, "Parameter 'input' is invalid: an object is expected"),
        ({"type": "jupyter", "input": "x"}, "Parameter 'input' is invalid: an object is expected"),
        (
            {"type": "jupyter", "input": {"tabels": []}},
            "Parameter 'input.tabels' is not allowed. Allowed params are 'tables,files'",
        ),
        (
            {"type": "jupyter", "input": {"tables": {}}},
            "Parameter 'input.tables' is invalid: an array is expected",
        ),
        (with_tables("x"), "Parameter 'input.tables[0]' is invalid: an object is expected"),
        (
            with_tables({"source": "a"}, {}),
            "Parameter 'input.tables[1].source' is required.",
        ),
        (with_tables({"source": None}), "Parameter 'input.tables[0].source' is required."),
        (with_table(source=""), "Parameter 'input.tables[0].source' is invalid: it is empty"),
        (
            with_table(source="\0"),
            "Parameter 'input.tables[0].source' is invalid: NUL is not allowed",
        ),
        (
            with_table(whereColumn="x"),
            "Parameter 'input.tables[0].whereColumn' is not allowed. "
            f"Allowed params are '{TABLE_KEYS}'",
        ),
        (
            with_file(tags=["a"], tag="b"),
            f"Parameter 'input.files[0].tag' is not allowed. Allowed params are '{FILE_KEYS}'",
        ),
        (
            with_table(columns="id"),
            "Parameter 'input.tables[0].columns' is invalid: an array is expected",
        ),
        (
            with_table(columns=["id", 5]),
            "Parameter 'input.tables[0].columns[1]' is invalid: a string is expected",
        ),
        (
            with_table(columns=["id", "id"]),
            "Parameter 'input.tables[0].columns' is invalid: the same value is there twice",
        ),
        (
            with_table(where_values=["1", {}]),
            "Parameter 'input.tables[0].where_values[1]' is invalid: a string is expected",
        ),
        (
            with_table(where_operator="lt"),
            "Parameter 'input.tables[0].where_operator' is invalid: it is not eq or ne",
        ),
        (
            with_table(days=1, changed_since="-2 days"),
            "Cannot set both parameters 'days' and 'changed_since'.",
        ),
        (
            {"type": "jupyter", "input": {"files": [{}]}},
            "At least one of 'tags' or 'query' parameters must be defined.",
        ),
        (
            with_file(tags=[], query="", processed_tags=["x"]),
            "At least one of 'tags' or 'query' parameters must be defined.",
        ),
        (with_file(tags=["a", ""]), "Parameter 'input.files[0].tags[1]' is invalid: it is empty"),
        (
            with_file(tags=["a"], processed_tags="b"),
            "Parameter 'input.files[0].processed_tags' is invalid: an array is expected",
        ),
        (
            with_file(tags=["a"], filter_by_run_id=1),
            "Parameter 'input.files[0].filter_by_run_id' is invalid: true or false is expected",
        ),
        (
            with_tables(*({"source": f"t{number}"} for number in range(1001))),
            "Parameter 'input.tables' is invalid: at most 1000 are taken",
        ),
    ],
)
def test_a_refusal_names_the_parameter_by_its_path(body: dict[str, Any], message: str) -> None:
    assert refusal(body) == message


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, True, "5", [], 2**31])
def test_days_and_limits_are_positive_integers(value: Any) -> None:
    for key in ("limit", "days"):
        message = f"Parameter 'input.tables[0].{key}' is invalid: {POSITIVE}"
        assert refusal(with_table(**{key: value})) == message
    message = f"Parameter 'input.files[0].limit' is invalid: {POSITIVE}"
    assert refusal(with_file(tags=["a"], limit=value)) == message
    assert sandbox(with_table(days=1, limit=2**31 - 1))


def test_the_first_unknown_key_is_named_then_the_first_missing_one() -> None:
    wrong = {"b": 1, "a": 1, "limit": "x"}
    assert refusal(with_tables(wrong)).startswith("Parameter 'input.tables[0].b' is not allowed.")
    assert refusal({"b": 1, "a": 1}).startswith("Parameter 'b' is not allowed.")
    assert refusal({"script": 5, "input": 5}) == "Parameter 'type' is required."


@pytest.mark.parametrize(
    "body, reason",
    [
        (with_table(size=1), "parameter_unknown"),
        (with_tables({}), "parameter_missing"),
        (with_table(limit=0), "parameter_invalid"),
        (with_table(days=1, changed_since="x"), "parameter_invalid"),
        (with_file(), "parameter_invalid"),
    ],
)
def test_the_reasons_are_those_of_other_parameters(body: dict[str, Any], reason: str) -> None:
    with pytest.raises(errors.ProvisioningError) as caught:
        sandbox(body)
    assert caught.value.reason == reason


@pytest.mark.parametrize("name", ["a/b", "/", "a\\b", ".", "..", "a\0", "", "x" * 251, "é" * 126])
def test_a_destination_is_one_plain_name(name: str) -> None:
    path = "Parameter 'input.tables[0].destination' is invalid: "
    assert refusal(with_table(destination=name)).startswith(path)


@pytest.mark.parametrize("source", ["in/x", "..", "x" * 251])
def test_a_source_that_becomes_the_destination_is_one_too(source: str) -> None:
    path = "Parameter 'input.tables[0].destination' is invalid: "
    assert refusal(with_tables({"source": source})).startswith(path)
    assert sandbox(with_tables({"source": source, "destination": "x"}))


@pytest.mark.parametrize("name", ["x" * 250, "é" * 125, "...", " ", "a b.csv", "-x", "\n"])
def test_any_plain_name_of_250_bytes_is_taken(name: str) -> None:
    assert sandbox(with_table(destination=name))


@pytest.mark.parametrize(
    "one, other",
    [
        ({"source": "a"}, {"source": "a"}),
        ({"source": "a"}, {"source": "b", "destination": "a"}),
        ({"source": "b", "destination": "a"}, {"source": "a"}),
        ({"source": "a"}, {"source": "a.manifest"}),
        ({"source": "a.manifest"}, {"source": "b", "destination": "a"}),
    ],
)
def test_no_table_takes_the_place_of_another_or_of_its_manifest(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    name = other.get("destination", other["source"])
    assert refusal(with_tables({"source": "first"}, one, other)) == (
        "Parameter 'input.tables[2].destination' is invalid: "
        f"'{name}' is taken by another table or its manifest"
    )
    assert sandbox(with_tables(one, {"source": "A"}, {"source": "amanifest"}))


def test_half_a_character_is_refused_wherever_it_is() -> None:
    half = json.loads('"\\ud800"')
    assert refusal({"type": "jupyter", "script": half}) == (
        "Parameter 'script' is invalid: it is not valid Unicode"
    )
    for key in ("source", "destination", "where_column"):
        assert "it is not valid Unicode" in refusal(with_table(**{key: half}))
    assert "it is not valid Unicode" in refusal(with_file(tags=[half]))


def test_a_script_may_be_long_and_hold_anything() -> None:
    script = "x = 'é\0'\n" * 500_000
    assert sandbox({"type": "jupyter", "script": script})["script"] == script


def test_integers_in_lists_of_values_are_taken_as_their_digits() -> None:
    loaded = sandbox(with_table(where_column="id", where_values=[1, "2"]))
    assert loaded["input"]["tables"][0]["where_values"] == ["1", "2"]
    assert sandbox(with_file(tags=[2019]))["input"]["files"][0]["tags"] == ["2019"]
    assert "a string is expected" in refusal(with_file(tags=[True]))


# The transformation variant -------------------------------------------------------------

ROW = {"config_id": "sys.c-tr-r", "config_version": "4", "row_id": "6789"}


def test_a_transformation_is_named_by_three_strings() -> None:
    body = {"transformation": ROW}
    assert load(CREATE_FROM_TRANSFORMATION, body) == body
    digits = {"transformation": {**ROW, "config_version": 4, "row_id": 6789}}
    assert load(CREATE_FROM_TRANSFORMATION, digits) == body


@pytest.mark.parametrize("key", ROW)
@pytest.mark.parametrize(
    "value, problem",
    [
        (None, "is required."),
        ("", "is invalid: it is empty"),
        (True, "is invalid: a string is expected"),
        (4.0, "is invalid: a string is expected"),
        ([], "is invalid: a string is expected"),
    ],
)
def test_each_part_of_the_name_is_required(key: str, value: Any, problem: str) -> None:
    with pytest.raises(errors.ProvisioningError) as caught:
        load(CREATE_FROM_TRANSFORMATION, {"transformation": {**ROW, key: value}})
    assert caught.value.message == f"Parameter 'transformation.{key}' {problem}"


@pytest.mark.parametrize(
    "body, message",
    [
        ({}, "Parameter 'transformation' is required."),
        ({"transformation": []}, "Parameter 'transformation' is invalid: an object is expected"),
        (
            {"transformation": ROW, "type": "jupyter"},
            "Parameter 'type' is not allowed. Allowed params are 'transformation,ttl'",
        ),
        (
            {"transformation": {**ROW, "type": "r"}},
            "Parameter 'transformation.type' is not allowed. "
            "Allowed params are 'config_id,config_version,row_id'",
        ),
    ],
)
def test_no_other_keys_are_taken(body: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.ProvisioningError) as caught:
        load(CREATE_FROM_TRANSFORMATION, body)
    assert caught.value.message == message


# Whatever is sent -----------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from(["a", "a.manifest", "in.c-main.x", "", ".", "eq", "ne", "\ud800", "\0"]),
    st.text(max_size=8),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)


def objects(**right: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects that mostly have the right keys with right values."""
    mostly = {key: st.one_of(value, value, value, VALUES) for key, value in right.items()}
    sound = st.fixed_dictionaries({}, optional=dict(right))
    wrong = st.fixed_dictionaries({}, optional=mostly)
    stray = st.dictionaries(WORDS | st.sampled_from(sorted(right)), VALUES, max_size=2)
    return st.one_of(sound, sound, wrong, st.builds(lambda one, two: {**one, **two}, sound, stray))


NAMES = st.text("ab.", min_size=1, max_size=3) | st.sampled_from(["a.manifest", "é" * 125])
TABLE = {
    "destination": NAMES,
    "columns": st.lists(NAMES, unique=True, max_size=3),
    "days": st.integers(1, 9),
    "where_column": NAMES,
    "where_values": st.lists(NAMES | st.integers(), max_size=2),
    "where_operator": st.sampled_from(["eq", "ne", ""]),
    "limit": st.integers(1, 9),
}
TABLES = st.builds(lambda source, keys: {"source": source, **keys}, NAMES, objects(**TABLE))
FILES = st.builds(
    lambda tag, keys: {"tags": [tag], **keys},
    NAMES,
    objects(
        query=NAMES,
        processed_tags=st.lists(NAMES, max_size=2),
        filter_by_run_id=st.booleans(),
        limit=st.integers(1, 9),
    ),
)
BODIES = st.builds(
    lambda body: {"type": "jupyter", **body},
    objects(
        script=st.text(max_size=5),
        input=objects(tables=st.lists(TABLES, max_size=3), files=st.lists(FILES, max_size=2)),
    ),
)


@settings(deadline=None, max_examples=200)
@given(BODIES)
def test_any_body_is_taken_or_refused_with_a_reason(body: dict[str, Any]) -> None:
    try:
        loaded = sandbox(body)
        require_type(backend_rules("docker"), loaded["type"])
    except errors.ProvisioningError as problem:
        assert problem.reason in (*REASONS, "type_invalid")
        return
    request = read_request(loaded)
    assert read_request(json.loads(json.dumps(request.to_json()))) == request
    assert "script" not in job_params(request)
    json.dumps(job_params(request), ensure_ascii=False).encode()
    assert isinstance(request, SandboxRequest)
    files = [table.file_name for table in request.tables or ()]
    paths = {path for name in files for path in (name, f"{name}.manifest")}
    assert len(paths) == 2 * len(files)
    assert not paths & {"", ".", ".."} and "/" not in "".join(paths)


@settings(deadline=None)
@given(objects(**dict.fromkeys(ROW, WORDS)) | VALUES)
def test_any_transformation_is_taken_or_refused_with_a_reason(row: Any) -> None:
    try:
        loaded = load(CREATE_FROM_TRANSFORMATION, {"transformation": row})
    except errors.ProvisioningError as problem:
        assert problem.reason in REASONS
        return
    assert all(loaded["transformation"].values())
