"""What every storage does in the same way (contract 8.1-8.3 and 12)."""

import csv
import gzip
import io
import re
from datetime import UTC, datetime, timedelta

import pytest

from provisioning.storage.base import FileQuery, StorageRefused, TableQuery
from tests.storage.case import Case, download, export

COLUMNS = ["id", "name", "city"]
ROWS = [["1", "Ann", "Brno"], ["2", "Bob", "Praha"], ["3", "Cyd", "Brno"], ["4", "Dan", ""]]


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


@pytest.fixture
def table(case: Case) -> str:
    return case.add_table(COLUMNS, ROWS)


# Tables -----------------------------------------------------------------------------------


def test_the_details_of_a_table_have_what_its_manifest_needs(case: Case, table: str) -> None:
    details = case.storage().table_details(table)
    assert details["id"] == table
    assert details["name"] == table.rpartition(".")[2]
    assert details["columns"] == COLUMNS
    assert details["primaryKey"] == []
    assert details["metadata"] == []
    for key in ("uri", "created", "lastChangeDate", "lastImportDate", "columnMetadata"):
        assert key in details


def test_an_export_is_csv_with_a_header(case: Case, table: str) -> None:
    assert read(export(case.storage(), TableQuery(table))) == [COLUMNS, *ROWS]


def test_cells_may_hold_anything(case: Case) -> None:
    cells = ['say "hi"', "a,b", "two\nlines", "two\r\nlines", "žluťoučký 🐎", "", " x ", "'", "\\"]
    columns = [f"c{number}" for number in range(len(cells))]
    table = case.add_table(columns, [cells, list(reversed(cells))])
    text = export(case.storage(), TableQuery(table))
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        columns,
        cells,
        list(reversed(cells)),
    ]


def test_an_empty_table_is_a_header(case: Case) -> None:
    table = case.add_table(COLUMNS, [])
    assert read(export(case.storage(), TableQuery(table))) == [COLUMNS]


def test_columns_come_in_the_order_they_were_asked_in(case: Case, table: str) -> None:
    text = export(case.storage(), TableQuery(table, columns=("city", "id")))
    assert read(text) == [["city", "id"], *([row[2], row[0]] for row in ROWS)]


def test_one_column_may_be_asked_for(case: Case, table: str) -> None:
    text = export(case.storage(), TableQuery(table, columns=("city",)))
    assert text == '"city"\n"Brno"\n"Praha"\n"Brno"\n""\n'


def test_rows_may_be_chosen_by_the_values_of_a_column(case: Case, table: str) -> None:
    query = TableQuery(table, where_column="city", where_values=("Brno", ""))
    assert read(export(case.storage(), query))[1:] == [ROWS[0], ROWS[2], ROWS[3]]


def test_rows_may_be_chosen_by_other_values(case: Case, table: str) -> None:
    query = TableQuery(
        table, columns=("id",), where_column="city", where_values=("Brno",), where_operator="ne"
    )
    assert read(export(case.storage(), query))[1:] == [["2"], ["4"]]


def test_a_column_without_values_chooses_nothing(case: Case, table: str) -> None:
    text = export(case.storage(), TableQuery(table, where_column="city"))
    assert read(text)[1:] == ROWS


def test_a_limit_counts_the_chosen_rows(case: Case, table: str) -> None:
    query = TableQuery(table, where_column="city", where_values=("Brno", ""), limit=2)
    assert read(export(case.storage(), query))[1:] == [ROWS[0], ROWS[2]]


@pytest.mark.parametrize("since", ["-7 days", "moment"])
def test_rows_may_be_chosen_by_their_change(case: Case, since: str) -> None:
    now = datetime.now(UTC)
    ages = [timedelta(days=8), timedelta(days=6), timedelta(days=30), timedelta(0)]
    table = case.add_table(COLUMNS, ROWS, [now - age for age in ages])
    if since == "moment":
        since = (now - timedelta(days=7)).isoformat(timespec="seconds")
    query = TableQuery(table, changed_since=since)
    assert read(export(case.storage(), query)) == [COLUMNS, ROWS[1], ROWS[3]]


def test_an_export_goes_where_the_target_stands(case: Case, table: str) -> None:
    target = io.BytesIO()
    target.write(b"before\n")
    case.storage().export_table(TableQuery(table, columns=("id",), limit=1), target)
    target.write(b"after\n")
    assert target.getvalue() == b'before\n"id"\n"1"\nafter\n'


@pytest.mark.parametrize("name", ["in.c-main.missing", "..", ".", "", "a/../b", "../../etc/passwd"])
def test_a_missing_table_is_named(case: Case, table: str, name: str) -> None:
    with pytest.raises(StorageRefused, match=re.escape(name or "''")):
        case.storage().table_details(name)
    with pytest.raises(StorageRefused, match=re.escape(name or "''")):
        export(case.storage(), TableQuery(name))


@pytest.mark.parametrize(
    "query",
    [
        {"table_id": "\ud800"},
        {"columns": ("id", "\ud800")},
        {"where_column": "\ud800", "where_values": ("red",)},
        {"changed_since": "\ud800"},
    ],
)
def test_half_a_character_is_refused(case: Case, table: str, query: dict[str, object]) -> None:
    with pytest.raises(StorageRefused):
        export(case.storage(), TableQuery(**{"table_id": table, **query}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "query",
    [
        {"columns": ("id", "colour")},
        {"where_column": "colour", "where_values": ("red",)},
    ],
)
def test_a_missing_column_is_named(case: Case, table: str, query: dict[str, object]) -> None:
    with pytest.raises(StorageRefused, match="colour"):
        export(case.storage(), TableQuery(table, **query))  # type: ignore[arg-type]


# Files ------------------------------------------------------------------------------------


def test_files_are_found_by_any_of_the_tags_newest_first(case: Case) -> None:
    red = case.add_file("a", b"", ["red"])
    case.add_file("b", b"", ["green"])
    both = case.add_file("c", b"", ["blue", "red"])
    blue = case.add_file("d", b"", ["blue"])
    found = case.storage().find_files(FileQuery(tags=("red", "blue")))
    assert found == [blue, both, red]


def test_files_are_found_up_to_a_limit(case: Case) -> None:
    ids = [case.add_file(f"f{number}", b"", ["many"]) for number in range(12)]
    newest = list(reversed(ids))
    assert case.storage().find_files(FileQuery(tags=("many",))) == newest[:10]
    assert case.storage().find_files(FileQuery(tags=("many",), limit=3)) == newest[:3]
    assert case.storage().find_files(FileQuery(tags=("many",), limit=50)) == newest


def test_files_are_found_by_a_query(case: Case) -> None:
    case.add_file("one.csv", b"", ["x"])
    wanted = case.add_file("two.csv", b"", ["x"])
    assert case.storage().find_files(FileQuery(query="name:two.csv")) == [wanted]
    assert case.storage().find_files(FileQuery(query="name:two.csv", tags=("x",))) == [wanted]
    assert case.storage().find_files(FileQuery(query="name:two.csv", tags=("y",))) == []


def test_files_are_found_by_the_run_that_made_them(case: Case) -> None:
    own = case.add_file("a", b"", ["t"], run_id="12")
    inner = case.add_file("b", b"", ["t"], run_id="12.34")
    case.add_file("c", b"", ["t"], run_id="123")
    case.add_file("d", b"", ["t"])
    assert case.storage().find_files(FileQuery(tags=("t",), run_id="12")) == [inner, own]


def test_the_details_of_a_file_have_what_its_manifest_needs(case: Case) -> None:
    file_id = case.add_file("report.csv", b"12345", ["red"], run_id="12")
    details = case.storage().file_details(file_id)
    assert details["id"] == file_id
    assert details["name"] == "report.csv"
    assert details["sizeBytes"] == 5
    assert details["tags"] == ["red"]
    assert details["runId"] == "12"
    assert details["isSliced"] is False
    assert datetime.fromisoformat(details["created"]).tzinfo is not None
    for key in ("url", "isPublic", "isEncrypted", "maxAgeDays", "provider"):
        assert key in details


def test_a_missing_file_is_refused(case: Case) -> None:
    with pytest.raises(StorageRefused, match="not found"):
        case.storage().file_details(999_999_999)
    with pytest.raises(StorageRefused, match="not found"):
        case.storage().tag_file(999_999_999, "red")


@pytest.mark.parametrize(
    "content", [b"", b"\x00\xff\r\n\x1f", gzip.compress(b"kept compressed", mtime=0)]
)
def test_a_file_is_one_part_as_it_was_stored(case: Case, content: bytes) -> None:
    file_id = case.add_file("data.bin", content)
    storage = case.storage()
    assert storage.count_parts(storage.file_details(file_id)) == 1
    assert download(storage, file_id) == content


def test_a_sliced_file_has_its_parts_in_order(case: Case) -> None:
    parts = [b"first", gzip.compress(b"second", mtime=0), b"", b"last"]
    file_id = case.add_file("data.csv", parts)
    storage = case.storage()
    details = storage.file_details(file_id)
    assert details["isSliced"] is True
    assert details["sizeBytes"] == sum(map(len, parts))
    assert storage.count_parts(details) == 4
    assert [download(storage, file_id, number) for number in range(4)] == parts


def test_a_sliced_file_may_have_no_parts(case: Case) -> None:
    file_id = case.add_file("data.csv", [])
    storage = case.storage()
    assert storage.count_parts(storage.file_details(file_id)) == 0


def test_a_tag_is_added_once(case: Case) -> None:
    file_id = case.add_file("a", b"kept", ["red"])
    storage = case.storage()
    for tag in ("green", "žlutá", "green"):
        storage.tag_file(file_id, tag)
    assert storage.file_details(file_id)["tags"] == ["red", "green", "žlutá"]
    assert storage.find_files(FileQuery(tags=("žlutá",))) == [file_id]
    assert download(storage, file_id) == b"kept"


# Configurations ---------------------------------------------------------------------------


def test_a_row_of_a_version_is_found(case: Case) -> None:
    old, new = {"backend": "docker", "type": "r"}, {"backend": "docker", "type": "python"}
    other = {"id": "7", "configuration": {}}
    case.add_configuration("sys.c-tr-r", "3", [other, {"id": "6789", "configuration": old}])
    case.add_configuration("sys.c-tr-r", "4", [other, {"id": 6789, "configuration": new}])
    storage = case.storage()
    assert storage.configuration_row("sys.c-tr-r", "3", "6789") == old
    assert storage.configuration_row("sys.c-tr-r", "4", "6789") == new
    assert storage.configuration_row("sys.c-tr-r", "4", "7") == {}


def test_a_missing_row_is_named(case: Case) -> None:
    case.add_configuration("tr", "4", [{"id": "6789", "configuration": {}}])
    with pytest.raises(StorageRefused, match="^Configuration Row not found: 678$"):
        case.storage().configuration_row("tr", "4", "678")


@pytest.mark.parametrize(
    ("config_id", "version", "named"),
    [("other", "4", "other"), ("tr", "5", "5"), ("..", "4", "'..'")],
)
def test_a_missing_version_is_named(case: Case, config_id: str, version: str, named: str) -> None:
    case.add_configuration("tr", "4", [{"id": "6789", "configuration": {}}])
    with pytest.raises(StorageRefused, match=named):
        case.storage().configuration_row(config_id, version, "6789")
