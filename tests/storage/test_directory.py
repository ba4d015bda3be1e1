"""A local directory: what counts as a table or a file there, and what stays outside."""

import io
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from provisioning.storage.base import FileQuery, StorageRefused, StorageUnavailable, TableQuery
from provisioning.storage.directory import DirectoryStorage
from tests.storage.case import DirectoryCase, download, export

HOSTILE = ["../secret", "/etc/passwd", "a/../../secret", "x\0y", "n" * 300, "\ud800", "secret\n"]


@pytest.fixture
def case(tmp_path: Path) -> DirectoryCase:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.csv").write_text("a\nsecret\n")
    (tmp_path / "secret.csv").write_text("a\nsecret\n")
    place = tmp_path / "storage"
    place.mkdir()
    return DirectoryCase(place)


# Nothing outside --------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_an_id_never_leads_out(case: DirectoryCase, name: str) -> None:
    storage = case.storage()
    with pytest.raises(StorageRefused):
        storage.export_table(TableQuery(name), io.BytesIO())
    with pytest.raises(StorageRefused):
        storage.configuration_row(name, "1", "1")
    with pytest.raises(StorageRefused):
        storage.configuration_row("tr", name, "1")


@pytest.mark.parametrize("target", ["../../outside/secret.csv", "/etc/passwd", "missing", "x.csv"])
def test_a_link_that_leads_out_or_nowhere_is_no_table(case: DirectoryCase, target: str) -> None:
    (case.tables / "x.csv").symlink_to(target)
    with pytest.raises(StorageRefused, match="Table 'x' not found"):
        export(case.storage(), TableQuery("x"))


def test_a_folder_of_tables_that_is_elsewhere_has_no_tables(case: DirectoryCase) -> None:
    case.tables.rmdir()
    case.tables.symlink_to("../outside")
    with pytest.raises(StorageRefused):
        export(case.storage(), TableQuery("secret"))


def test_a_link_inside_is_followed(case: DirectoryCase) -> None:
    table = case.add_table(["a"], [["1"]])
    (case.tables / "alias.csv").symlink_to(f"{table}.csv")
    assert export(case.storage(), TableQuery("alias")) == '"a"\n"1"\n'


def test_files_and_parts_that_are_elsewhere_are_not_there(case: DirectoryCase) -> None:
    (case.files / "900_link").symlink_to("/etc/passwd")
    sliced = case.add_file("sliced", [b"own"])
    (case.files / f"{sliced}_sliced" / "part.1").symlink_to("/etc/passwd")
    storage = case.storage()
    with pytest.raises(StorageRefused, match="File '900' not found"):
        storage.file_details(900)
    assert storage.find_files(FileQuery(query="link")) == []
    assert storage.count_parts(storage.file_details(sliced)) == 1


def test_what_is_no_regular_file_is_not_waited_for(case: DirectoryCase) -> None:
    os.mkfifo(case.tables / "pipe.csv")
    with pytest.raises(StorageRefused, match="'pipe' not found"):
        export(case.storage(), TableQuery("pipe"))


def test_messages_do_not_tell_where_the_directory_is(case: DirectoryCase) -> None:
    (case.tables / "bad.csv").write_text("a,b\n1\n")
    (case.tables / "bad.json").write_text("{")
    for call in (
        lambda: case.storage().table_details("bad"),
        lambda: export(case.storage(), TableQuery("bad")),
        lambda: DirectoryStorage(case.path / "gone").table_details("t"),
    ):
        with pytest.raises((StorageRefused, StorageUnavailable)) as caught:
            call()
        assert str(case.path) not in str(caught.value)


def test_a_missing_directory_is_the_operators_fault(case: DirectoryCase) -> None:
    gone = DirectoryStorage(case.path / "gone")
    with pytest.raises(StorageUnavailable, match="is not there"):
        gone.table_details("in.c-main.t")


# Tables -----------------------------------------------------------------------------------


def test_a_table_may_be_described(case: DirectoryCase) -> None:
    known = {"primaryKey": ["a"], "metadata": [{"key": "k"}], "columns": ["other"], "id": "no"}
    (case.tables / "t.csv").write_text("a,b\n")
    (case.tables / "t.json").write_text(json.dumps(known))
    details = case.storage().table_details("t")
    assert (details["primaryKey"], details["metadata"]) == (["a"], [{"key": "k"}])
    assert (details["id"], details["columns"]) == ("t", ["a", "b"])


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_broken_description_is_named(case: DirectoryCase, text: str) -> None:
    (case.tables / "t.csv").write_text("a,b\n")
    (case.tables / "t.json").write_text(text)
    with pytest.raises(StorageUnavailable, match="tables/t.json"):
        case.storage().table_details("t")


def test_what_spreadsheets_write_is_read(case: DirectoryCase) -> None:
    (case.tables / "t.csv").write_bytes(b"\xef\xbb\xbfa,b\r\n1,\r\n\r\n\xff\xfe,2\r\n")
    target = io.BytesIO()
    case.storage().export_table(TableQuery("t"), target)
    assert target.getvalue() == b'"a","b"\n"1",""\n"\xff\xfe","2"\n'


def test_a_cell_may_be_long(case: DirectoryCase) -> None:
    table = case.add_table(["a"], [["x" * 1_000_000]])
    assert len(export(case.storage(), TableQuery(table))) > 1_000_000


def test_a_file_that_is_no_table_is_refused_with_its_line(case: DirectoryCase) -> None:
    (case.tables / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(StorageRefused, match="Table 't' is not CSV from line 3 on"):
        export(case.storage(), TableQuery("t"))


def test_a_table_without_a_header_is_empty(case: DirectoryCase) -> None:
    (case.tables / "t.csv").write_text("")
    assert case.storage().table_details("t")["columns"] == []
    assert export(case.storage(), TableQuery("t")) == ""


def test_without_times_of_rows_the_tables_own_counts(case: DirectoryCase) -> None:
    table = case.add_table(["a"], [["1"]])
    week_ago = (datetime.now(UTC) - timedelta(days=7)).timestamp()
    os.utime(case.tables / f"{table}.csv", (week_ago, week_ago))
    storage = case.storage()
    assert export(storage, TableQuery(table, changed_since="-8 days")) == '"a"\n"1"\n'
    assert export(storage, TableQuery(table, changed_since="-6 days")) == '"a"\n'


def test_times_of_rows_are_no_column(case: DirectoryCase) -> None:
    table = case.add_table(["a"], [["1"]], [datetime.now(UTC)])
    storage = case.storage()
    assert storage.table_details(table)["columns"] == ["a"]
    assert export(storage, TableQuery(table)) == '"a"\n"1"\n'
    with pytest.raises(StorageRefused, match="no column '_timestamp'"):
        export(storage, TableQuery(table, columns=("_timestamp",)))


def test_a_time_that_is_none_is_refused(case: DirectoryCase) -> None:
    table = case.add_table(["a"], [["1"]])
    with pytest.raises(StorageRefused, match="'soon' is neither"):
        export(case.storage(), TableQuery(table, changed_since="soon"))
    (case.tables / "t.csv").write_text("a,_timestamp\n1,soon\n")
    with pytest.raises(StorageRefused, match="line 2"):
        export(case.storage(), TableQuery("t", changed_since="-1 day"))


# Files ------------------------------------------------------------------------------------


def test_only_what_begins_with_an_id_is_a_file(case: DirectoryCase) -> None:
    (case.files / "readme.txt").write_text("")
    (case.files / "0_zero").write_text("")
    (case.files / "7_").write_text("")
    (case.files / "8_plain").write_text("plain")
    storage = case.storage()
    assert storage.find_files(FileQuery(query="*")) == [8]
    assert storage.file_details(8)["tags"] == []
    assert download(storage, 8) == b"plain"


UNUSABLE = {"not UTF-8": b"9_caf\xe9.csv", "longer than 240 bytes": b"9_" + b"n" * 249}


@pytest.mark.parametrize("problem", UNUSABLE)
def test_a_file_whose_name_cannot_be_used_is_refused_by_name(
    case: DirectoryCase, problem: str
) -> None:
    """It would be missing, and nobody would be told."""
    (case.files / "8_plain").write_text("plain")
    Path(os.fsdecode(bytes(case.files) + b"/" + UNUSABLE[problem])).write_text("")
    with pytest.raises(StorageRefused, match=f"'9_.*refused: it is {problem}"):
        case.storage().find_files(FileQuery(tags=("red",)))


@pytest.mark.parametrize("problem", UNUSABLE)
def test_a_part_whose_name_cannot_be_used_is_refused_by_name(
    case: DirectoryCase, problem: str
) -> None:
    (case.files / "8_sliced").mkdir()
    Path(os.fsdecode(bytes(case.files) + b"/8_sliced/" + UNUSABLE[problem])).write_text("")
    with pytest.raises(StorageRefused, match=f"'9_.*refused: it is {problem}"):
        case.storage().file_details(8)


def test_json_is_a_file_unless_it_describes_another(case: DirectoryCase) -> None:
    (case.files / "5_settings.json").write_text("{}")
    (case.files / "5_settings.json.json").write_text('{"tags": ["red"]}')
    storage = case.storage()
    assert storage.find_files(FileQuery(tags=("red",))) == [5]
    assert storage.file_details(5)["name"] == "settings.json"
    assert download(storage, 5) == b"{}"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("name:*.csv", [2, 1]),
        ("*.CSV", [2, 1]),
        ("name:*.csv AND tags:red", [1]),
        ('tags:"last week"', [2]),
        ("tags:*", [2, 1]),
        ("name:one", []),
    ],
)
def test_queries_name_patterns(case: DirectoryCase, query: str, found: list[int]) -> None:
    case.add_file("one.csv", b"", ["red"])
    case.add_file("two.CSV", b"", ["last week"])
    case.add_file("three.txt", b"")
    assert case.storage().find_files(FileQuery(query=query)) == found


@pytest.mark.parametrize(
    "query", ["size:>5", "a OR b", "NOT a", "(a b)", 'name:"open', "name:[a TO b]"]
)
def test_other_queries_are_refused(case: DirectoryCase, query: str) -> None:
    with pytest.raises(StorageRefused):
        case.storage().find_files(FileQuery(query=query))


def test_tags_of_several_jobs_are_all_kept(case: DirectoryCase) -> None:
    file_id = case.add_file("a", b"", ["first"])
    tags = [f"tag{number}" for number in range(40)]
    jobs = [threading.Thread(target=case.storage().tag_file, args=(file_id, tag)) for tag in tags]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted(case.storage().file_details(file_id)["tags"]) == sorted(["first", *tags])
    assert not [name for name in os.listdir(case.files) if name.startswith(".")]
