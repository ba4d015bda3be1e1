"""What a sandbox finds below /data, and what callers are told when it cannot (contract 8.3)."""

import json
from pathlib import Path
from typing import Any

import pytest

from provisioning.backends.base import ContentRefused
from provisioning.sandbox.content import SandboxContent, parent_run_id
from provisioning.sandbox.request import FileInput, LoadPlan, TableInput
from provisioning.storage.base import FileQuery, StorageRefused, TableQuery
from tests.sandbox.stand_in import (
    CSV,
    EMPTY,
    LIMIT,
    RUN_ID,
    DirectoryFiles,
    Loading,
    StandInStorage,
)


def manifest(content: bytes | None) -> dict[str, Any]:
    assert content is not None
    loaded: dict[str, Any] = json.loads(content)
    return loaded


# Always ---------------------------------------------------------------------------------


def test_a_sandbox_without_input_has_its_directories_and_its_script(tmp_path: Path) -> None:
    files = DirectoryFiles(tmp_path / "sandbox")
    plan = LoadPlan("rstudio", "1 + 1", packages=("dplyr",))
    content = SandboxContent(plan, None, RUN_ID, tmp_path, lambda: None)
    assert content.packages == ("dplyr",)
    content.load(files, lambda *_: None)
    assert files.tree() == {**EMPTY, "main.R": b"1 + 1"}


def test_a_jupyter_sandbox_has_a_notebook_too(load: Loading) -> None:
    found = load(type="jupyter", script="x = 1")
    assert found.keys() == {"main.py", "notebook.ipynb"}
    assert found["main.py"] == b"x = 1"


# Tables ---------------------------------------------------------------------------------


def test_a_table_is_a_file_with_a_manifest(storage: StandInStorage, load: Loading) -> None:
    storage.add_table("in.c-main.orders")
    found = load(tables=(TableInput("in.c-main.orders"),))
    assert found.keys() == {"in/tables/in.c-main.orders", "in/tables/in.c-main.orders.manifest"}
    assert found["in/tables/in.c-main.orders"] == CSV
    assert manifest(found["in/tables/in.c-main.orders.manifest"]) == {
        "id": "in.c-main.orders",
        "uri": "https://storage.example.com/v2/storage/tables/in.c-main.orders",
        "name": "orders",
        "primary_key": ["id"],
        "created": "2019-01-10T10:00:00+0100",
        "last_change_date": "2019-01-10T10:00:01+0100",
        "last_import_date": "2019-01-10T10:00:02+0100",
        "columns": ["id", "name"],
        "metadata": [{"id": "1", "key": "k", "value": "v", "provider": "user"}],
        "column_metadata": {
            "id": [],
            "name": [{"id": "2", "key": "c", "value": "w", "provider": "user"}],
        },
    }


def test_a_table_goes_where_its_destination_says(storage: StandInStorage, load: Loading) -> None:
    storage.add_table("x", columnMetadata=[])
    found = load(tables=(TableInput("x", "y.csv", columns=("name",), days=2, limit=3),))
    assert found.keys() == {"in/tables/y.csv", "in/tables/y.csv.manifest"}
    assert storage.table_queries == [TableQuery("x", ("name",), changed_since="-2 days", limit=3)]
    told = manifest(found["in/tables/y.csv.manifest"])
    assert (told["columns"], told["column_metadata"]) == (["name"], {"name": []})


def test_a_name_without_room_for_a_manifest_is_loaded_alone(
    storage: StandInStorage, load: Loading
) -> None:
    storage.add_table("x")
    assert load(tables=(TableInput("x", "y" * 250),)) == {f"in/tables/{'y' * 250}": CSV}


def test_a_table_that_storage_knows_little_of_still_has_all_keys(
    storage: StandInStorage, load: Loading
) -> None:
    storage.tables["x"] = {"id": "x"}, CSV
    told = manifest(load(tables=(TableInput("x"),))["in/tables/x.manifest"])
    assert told == {
        "id": "x",
        "uri": None,
        "name": None,
        "primary_key": [],
        "created": None,
        "last_change_date": None,
        "last_import_date": None,
        "columns": [],
        "metadata": [],
        "column_metadata": {},
    }


def test_a_missing_table_is_named(load: Loading) -> None:
    message = "^Cannot load table in.c-main.x: The table in.c-main.x was not found$"
    with pytest.raises(ContentRefused, match=message):
        load(tables=(TableInput("in.c-main.x"),))


def test_a_table_and_a_file_may_be_as_large_as_the_limit(
    storage: StandInStorage, load: Loading
) -> None:
    half = b"x" * (LIMIT // 2)
    storage.add_table("large", half + half)
    storage.add_file(1, "sliced", half, half)
    load(tables=(TableInput("large"),), files=(FileInput(query="sliced"),))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("table larger", {"tables": (TableInput("larger"),)}),
        ("file 2", {"files": (FileInput(query="longer"),)}),
    ],
)
def test_what_is_larger_than_the_limit_is_refused_by_name(
    storage: StandInStorage, load: Loading, name: str, wanted: dict[str, Any]
) -> None:
    half = b"x" * (LIMIT // 2)
    storage.add_table("larger", half + half + b"x")
    storage.add_file(2, "longer", half, half, b"x")
    with pytest.raises(ContentRefused, match=f"Cannot load {name}: It is larger than 5.0 MB"):
        load(**wanted)


def test_a_refused_export_is_named(storage: StandInStorage, load: Loading) -> None:
    storage.add_table("x")
    storage.failures["export_table"] = StorageRefused("Column y does not exist")
    with pytest.raises(ContentRefused, match="^Cannot load table x: Column y does not exist$"):
        load(tables=(TableInput("x"),))


# Files ----------------------------------------------------------------------------------


def test_a_file_is_named_by_its_id_and_has_a_manifest(
    storage: StandInStorage, load: Loading
) -> None:
    storage.add_file(12, "a.csv", b"content", tags=["t", "u"])
    found = load(files=(FileInput(tags=("t",)),))
    assert found.keys() == {"in/files/12_a.csv", "in/files/12_a.csv.manifest"}
    assert found["in/files/12_a.csv"] == b"content"
    assert manifest(found["in/files/12_a.csv.manifest"]) == {
        "id": 12,
        "name": "a.csv",
        "created": "2019-01-10T10:00:00+0100",
        "is_public": False,
        "is_encrypted": True,
        "is_sliced": False,
        "tags": ["t", "u"],
        "max_age_days": 15,
        "size_bytes": 7,
    }


def test_a_sliced_file_is_a_directory_of_parts(storage: StandInStorage, load: Loading) -> None:
    storage.add_file(12, "a.csv", b"one", b"two", b"", tags=["t"], sizeBytes="6")
    found = load(files=(FileInput(tags=("t",)),))
    told = manifest(found.pop("in/files/12_a.csv.manifest"))
    assert (told["is_sliced"], told["size_bytes"]) == (True, 6)
    assert found == {
        "in/files/12_a.csv": None,
        "in/files/12_a.csv/part.0": b"one",
        "in/files/12_a.csv/part.1": b"two",
        "in/files/12_a.csv/part.2": b"",
    }


@pytest.mark.parametrize(
    "name, path",
    [
        ("../../../etc/passwd", "12_.._.._.._etc_passwd"),
        ("a\0b\nc", "12_a_b_c"),
        ("", "12_"),
        (None, "12_"),
        ("é" * 200, "12_" + "é" * 121),
    ],
)
def test_a_files_name_is_made_safe(
    storage: StandInStorage, load: Loading, name: Any, path: str
) -> None:
    storage.add_file(12, "", b"x", tags=["t"])
    storage.files[12][0]["name"] = name
    found = load(files=(FileInput(tags=("t",)),))
    assert found.keys() == {f"in/files/{path}", f"in/files/{path}.manifest"}
    assert manifest(found[f"in/files/{path}.manifest"])["name"] == name


def test_the_newest_ten_are_loaded_and_each_once(storage: StandInStorage, load: Loading) -> None:
    for number in range(1, 13):
        storage.add_file(number, "x", b"", tags=["t"])
    found = load(files=(FileInput(tags=("t",)), FileInput(query="x", limit=1)))
    loaded = {path for path in found if not path.endswith(".manifest")}
    assert loaded == {f"in/files/{number}_x" for number in range(3, 13)}
    downloads = [call for call in storage.calls if call[0] == "download_part"]
    assert len(downloads) == 10


def test_no_file_is_no_fault_of_a_plain_sandbox(load: Loading) -> None:
    assert load(files=(FileInput(tags=("t",)),)) == {}


def test_files_of_the_callers_own_run_can_be_asked_for(
    storage: StandInStorage, load: Loading
) -> None:
    for number, run in ((1, "100.200"), (2, RUN_ID), (3, "100")):
        storage.add_file(number, "x", b"", tags=["t"])
        storage.run_ids[number] = run
    found = load(files=(FileInput(tags=("t",), filter_by_run_id=True),))
    assert found.keys() == {"in/files/1_x", "in/files/1_x.manifest"}


@pytest.mark.parametrize(
    "run_id, parent", [("1.2", "1"), ("a b.(c).3", "a b.(c)"), ("x..3", "x."), ("7", "7")]
)
def test_the_parent_run_is_the_one_that_the_caller_named(run_id: str, parent: str) -> None:
    assert parent_run_id(run_id) == parent


@pytest.mark.parametrize(
    "file, words",
    [
        (FileInput(tags=("a", "b")), "tag 'a', tag 'b'"),
        (FileInput(query="q("), "query 'q('"),
        (FileInput(tags=("a",), query="q"), "tag 'a', query 'q'"),
    ],
)
def test_a_refused_search_is_named(
    storage: StandInStorage, load: Loading, file: FileInput, words: str
) -> None:
    storage.failures["find_files"] = StorageRefused("Bad query")
    with pytest.raises(ContentRefused) as caught:
        load(files=(file,))
    assert str(caught.value) == f"Cannot find files by {words}: Bad query"


@pytest.mark.parametrize("call", ["file_details", "download_part"])
def test_a_refused_file_is_named(storage: StandInStorage, load: Loading, call: str) -> None:
    storage.add_file(12, "a", b"x", tags=["t"])
    storage.failures[call] = StorageRefused("Access denied")
    with pytest.raises(ContentRefused, match="^Cannot load file 12: Access denied$"):
        load(files=(FileInput(tags=("t",)),))


# Processed tags -------------------------------------------------------------------------


def test_files_are_marked_when_the_sandbox_is_there(storage: StandInStorage, load: Loading) -> None:
    storage.add_table("x")
    storage.add_file(1, "a", b"", tags=["t"])
    storage.add_file(2, "b", b"", tags=["t", "u"])
    load(
        tables=(TableInput("x"),),
        files=(
            FileInput(tags=("t",), processed_tags=("done", "seen")),
            FileInput(tags=("u",), processed_tags=("other",)),
        ),
    )
    assert storage.calls[-5:] == [
        ("tag_file", 2, "done"),
        ("tag_file", 1, "done"),
        ("tag_file", 2, "seen"),
        ("tag_file", 1, "seen"),
        ("tag_file", 2, "other"),
    ]


@pytest.mark.parametrize(
    "missing", [{"tables": (TableInput("x"), TableInput("y"))}, {"user_tags": ("none",)}]
)
def test_nothing_is_marked_when_anything_is_missing(
    storage: StandInStorage, load: Loading, missing: dict[str, Any]
) -> None:
    storage.add_file(1, "a", b"", tags=["t"])
    storage.add_table("x")
    with pytest.raises(ContentRefused):
        load(files=(FileInput(tags=("t",), processed_tags=("d",)),), **missing)
    assert not [call for call in storage.calls if call[0] == "tag_file"]


def test_a_refused_mark_is_named(storage: StandInStorage, load: Loading) -> None:
    storage.add_file(1, "a", b"", tags=["t"])
    storage.failures["tag_file"] = StorageRefused("Read only")
    with pytest.raises(ContentRefused, match="^Cannot add tag 'd' to file 1: Read only$"):
        load(files=(FileInput(tags=("t",), processed_tags=("d",)),))


# A transformation's tags ----------------------------------------------------------------


def test_each_tag_has_its_newest_file(storage: StandInStorage, load: Loading) -> None:
    storage.add_file(1, "old", b"1", tags=["a", "b"])
    storage.add_file(2, "both", b"2", b"3", tags=["a", "c/d"])
    found = load(files=(FileInput(tags=("a", "b", "c/d")),), user_tags=("a", "b", "c/d"))
    user = {path: content for path, content in found.items() if path.startswith("in/user/")}
    about = {path: manifest(user.pop(path))["id"] for path in list(user) if "manifest" in path}
    assert about == {
        "in/user/a.manifest": 2,
        "in/user/b.manifest": 1,
        "in/user/c_d.manifest": 2,
    }
    assert user == {
        "in/user/a": None,
        "in/user/a/part.0": b"2",
        "in/user/a/part.1": b"3",
        "in/user/b": b"1",
        "in/user/c_d": None,
        "in/user/c_d/part.0": b"2",
        "in/user/c_d/part.1": b"3",
    }
    assert found["in/files/1_old"] == b"1"
    assert found["in/files/2_both/part.1"] == b"3"


def test_a_tags_file_is_found_behind_many_newer_ones(
    storage: StandInStorage, load: Loading
) -> None:
    storage.add_file(1, "rare", b"rare", tags=["b"])
    for number in range(2, 20):
        storage.add_file(number, "x", b"", tags=["a"])
    found = load(files=(FileInput(tags=("a", "b")),), user_tags=("a", "b"))
    assert found["in/user/b"] == found["in/files/1_rare"] == b"rare"
    assert len([path for path in found if path.startswith("in/files/")]) == 2 * 11


def test_a_tag_without_a_file_is_told_before_anything_is_downloaded(
    storage: StandInStorage, load: Loading
) -> None:
    storage.add_file(1, "a", b"1", tags=["a"])
    storage.add_table("x")
    with pytest.raises(ContentRefused, match="^No files were found for tag: b$"):
        load(tables=(TableInput("x"),), files=(FileInput(tags=("a", "b")),), user_tags=("a", "b"))
    assert {call[0] for call in storage.calls} == {"find_files"}
    assert storage.file_queries[1:] == [
        FileQuery(tags=("a",), limit=1),
        FileQuery(tags=("b",), limit=1),
    ]
